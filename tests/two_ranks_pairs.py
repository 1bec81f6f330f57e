"""Run by torchrun: the same PG-DPO training on one rank and on two; rank 0 writes what came of it."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.tiny import logged, weights
from tests.tiny_pairs import pairs, pg_dpo_trainer


torch.set_num_threads(1)
dist.init_process_group("gloo", timeout=timedelta(seconds=60))
output, dynamic = Path(sys.argv[1]), bool(int(sys.argv[2]))
changes = {"learning_rate": 1e-2, "pg_beta": 1.0, "max_steps": 60} if dynamic else {"max_steps": 4}
trainer = pg_dpo_trainer(
    output.parent / "run",
    pairs(16),
    dynamic_pairs=dynamic,
    per_device_train_batch_size=4 // dist.get_world_size(),
    pg_aggregation="token",
    max_grad_norm=0.0,
    optim="sgd",
    weight_decay=0.0,
    **{**changes, "learning_rate": 0.3},
)
trainer.train()
if dist.get_rank() == 0:
    outcome = {
        "steps": trainer.state.global_step,
        "stop_reason": trainer.stop_reason,
        "losses": logged(trainer, "loss"),
        "scored": logged(trainer, "dynamic_pairs/scored_pairs"),
        "weights": weights(trainer).tolist(),
    }
    output.write_text(json.dumps(outcome))
dist.destroy_process_group()
