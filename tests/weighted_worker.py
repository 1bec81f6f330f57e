"""
Takes one optimizer step's loss on two gloo ranks, each with half of the rows; started by tests/test_token_weights.py.

Usage: weighted_worker.py OUTPUT_DIR MODEL_DIR
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.loss_reference import first_step, random_case
from tests.pg_tiny import pg_trainer
from tests.test_token_weights import row_dependent


def main(output_dir: str, model_dir: str) -> None:
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    trainer = pg_trainer(
        output_dir,
        loss_type="dapo",
        steps_per_generation=2,
        gradient_accumulation_steps=2,
        trainer_args={"model": model_dir, "token_weight_fn": row_dependent},
    )
    rank = trainer.accelerator.process_index
    case = random_case(0, rows=16)
    half = slice(rank * 8, rank * 8 + 8)
    total = trainer.accelerator.reduce(case.batch.pop("num_items_in_batch") / 2)
    case.batch = {name: values[half] for name, values in case.batch.items()}
    case.batch["num_items_in_batch"] = total
    torch.manual_seed(0)
    loss, _ = first_step(trainer, case, pytest.MonkeyPatch)
    metrics = {name: values for name, values in trainer._metrics["train"].items() if name.startswith("pg_grpo/")}
    result = {"loss": loss.item(), "gradient": case.scores.gradient.tolist(), "metrics": metrics}
    (Path(output_dir) / f"rank{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
