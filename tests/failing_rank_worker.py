"""
A rank that fails alone; started by tests/test_failing_rank.py.

Usage: failing_rank_worker.py OUTPUT_DIR WHERE

- `reward`, `async`: a reward function raises on rank 1 in its third call
- `column`: a reward function pushes too few values with `log_extra` on rank 1
- `weights`: the `token_weight_fn` raises on rank 1 in the third generation
- `construction`: rank 1 has a dataset that is refused
- `callback`: a callback raises on rank 1, as anything else may that the trainer does not call for its result
- `pairs`: PG-DPO with a callback that raises on rank 1
"""

import os
import sys
import time
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from transformers import TrainerCallback

from dapo_ext.playground.policy import build_policy
from tests.tiny import SMALL, dapo_trainer, odd_length, prompts
from tests.tiny_pairs import pg_dpo_trainer


calls = 0


def fail(output_dir: Path) -> None:
    (output_dir / "failed_at").write_text(str(time.time()))
    raise ConnectionError("the reward server of rank 1 is gone")


def main(output_dir: Path, where: str) -> None:
    # A rank that waits for another one would do so for half an hour, as with TRL's default
    dist.init_process_group("gloo", timeout=timedelta(minutes=30))
    here = os.environ["RANK"] == "1"

    def failing_reward(completion_ids, log_extra, **kwargs):
        global calls
        calls += 1
        if where == "column":
            if here and calls == 3:
                (output_dir / "failed_at").write_text(str(time.time()))
            log_extra("length", [1] * (len(completion_ids) - (here and calls == 3)))
        if where in ("reward", "async") and here and calls == 3:
            fail(output_dir)
        return odd_length(completion_ids)

    async def failing_async_reward(completion_ids, **kwargs):
        return failing_reward(completion_ids, **kwargs)

    generations = 0

    def failing_weights(completion_ids, mask, logps, entropies, advantages):
        nonlocal generations
        generations += 1
        if here and generations == 3:
            fail(output_dir)
        return entropies.clamp(min=0)

    class Failing(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if here:
                fail(output_dir)

    callbacks = [Failing()] if where in ("callback", "pairs") else []
    model = build_policy(0, **SMALL)
    if where == "pairs":
        trainer = pg_dpo_trainer(output_dir / "run", trainer_args={"model": model, "callbacks": callbacks})
    else:
        if where == "construction" and here:
            (output_dir / "failed_at").write_text(str(time.time()))
        trainer = dapo_trainer(
            output_dir / "run",
            failing_async_reward if where == "async" else failing_reward,
            prompts(0 if where == "construction" and here else 64),
            {
                "model": model,
                "callbacks": callbacks,
                "token_weight_fn": failing_weights if where == "weights" else None,
            },
            per_device_train_batch_size=6,
            steps_per_generation=1,
        )
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
