"""
PG-DPO runs that two gloo ranks must make as one rank does, and one with a judge's preferences as rewards; started by
tests/test_two_ranks_pairs.py through torchrun.

Usage: two_ranks_pairs_worker.py OUTPUT_DIR
"""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from dapo_ext.playground.policy import build_policy
from pg_grpo import PreferenceReward
from tests.tiny import SMALL, dapo_trainer, logged, weights
from tests.tiny_pairs import pairs, pg_dpo_trainer


# The token mean, so that micro-batches and ranks have unequal shares of it
COMMON: dict[str, Any] = {"pg_aggregation": "token", "pg_beta": 1.0, "optim": "sgd", "learning_rate": 0.3}
RUNS: dict[str, dict[str, Any]] = {
    "plain": {"max_steps": 4},
    # No pair is replaced, so that dead ones fill places on either rank
    "shrunk": {"max_steps": 4, "dynamic_pairs": True, "pair_budget": 1.0, "delta": 2.0, "learning_rate": 0.03},
    "dynamic": {"max_steps": 200, "dynamic_pairs": True, "optim": "adamw_torch", "learning_rate": 1e-2},
}


def train(output_dir: Path, name: str, world: int) -> dict[str, Any]:
    trainer = pg_dpo_trainer(
        output_dir / f"{name}{world}",
        pairs(16),
        {"model": build_policy(0, **SMALL), "ref_model": build_policy(1, **SMALL)} if name == "shrunk" else None,
        per_device_train_batch_size=4 // world,
        max_grad_norm=0.0,
        **{**COMMON, **RUNS[name]},
    )
    trainer.train()
    return {
        "steps": trainer.state.global_step,
        "stop_reason": trainer.stop_reason,
        "sampler": trainer.sampler and trainer.sampler.state().values,
        "weights": weights(trainer).double().tolist(),
        "losses": logged(trainer, "loss"),
        "kept": logged(trainer, "dynamic_pairs/kept_pairs"),
        "scored": logged(trainer, "dynamic_pairs/scored_pairs"),
    }


def judge_by_first_token(prompts, completions):
    """Most pairs tie, so that many groups are dead."""
    wins = [(a[:1] in "0123", b[:1] in "0123") for a, b in completions]
    return [0.5 if a == b else float(b) for a, b in wins]


def train_on_preferences(output_dir: Path) -> dict[str, Any]:
    trainer = dapo_trainer(
        output_dir / "preferences",
        PreferenceReward(judge_by_first_token, num_generations=4),
        trainer_args={"model": build_policy(0, **SMALL)},
        per_device_train_batch_size=8,
        steps_per_generation=1,
        max_steps=6,
    )
    trainer.train()
    return {"ledger": trainer.sampler.ledger.state_dict(), "weights": weights(trainer).double().tolist()}


if __name__ == "__main__":
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    results = {name: train(Path(sys.argv[1]), name, dist.get_world_size()) for name in RUNS}
    results["preferences"] = train_on_preferences(Path(sys.argv[1]))
    (Path(sys.argv[1]) / f"rank{dist.get_rank()}.json").write_text(json.dumps(results))
    dist.destroy_process_group()
