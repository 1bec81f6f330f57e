"""
Trains on one or more gloo ranks; started by tests/test_two_ranks.py through torchrun.

Usage: two_ranks_worker.py OUTPUT_DIR MODE

- `generate`: the policy's own samples, with rewards that differ by rank, 50 steps
- `replay`: completions that are a function of the prompt and its place in the group, so that any number of ranks sees
  the same rollouts
- `predictive`: the same with prompts chosen by their estimated pass rates
- `shrink` and `raise`: a budget that is never enough
- `dry`: a pool without one informative group
- `shrink-uniform`, `raise-predictive` and the other two, with a number of steps as third argument: policy at exhaustion
  and selection, on the rollouts of `replay`, with groups that straddle two ranks as well as three
"""

import hashlib
import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from dapo_ext import GenerationBudgetExhausted
from dapo_ext.playground.policy import build_policy
from tests.tiny import SMALL, dapo_trainer, logged, rare_first_token, weights


def fixed_completions(self, prompt_ids, images, multimodal_fields, num_generations):
    """Three to eight tokens drawn from a hash of the prompt and the row's place in its group."""
    rank, rows = self.accelerator.process_index, len(prompt_ids)
    completions = []
    for row, prompt in enumerate(prompt_ids, rank * rows):
        digest = hashlib.blake2b(f"{prompt}/{row % num_generations}".encode()).digest()
        length = 3 + digest[0] % 6
        completions.append([4 + byte % 16 for byte in digest[1:length]] + [1])
    return completions, None


class Watch:
    """Groups that are trained on, as seen by the loss: rows of all ranks, in the order of the batch."""

    def __init__(self, trainer):
        self.batches = []
        generate = trainer._generate_and_score_completions

        def watched(inputs):
            batch = generate(inputs)
            rows = trainer.accelerator.gather(torch.nn.functional.pad(batch["completion_ids"], (0, 8))[:, :8])
            groups = rows.view(-1, trainer.num_generations, 8).tolist()
            self.batches.append([sorted(map(tuple, group)) for group in groups])
            return batch

        trainer._generate_and_score_completions = watched


def straddling(mode: str, steps: int, world: int) -> dict:
    """30 rows are 5 groups of 6: ranks of 15 or 10 rows cut some of them in two."""
    policy, selection = mode.split("-")
    return {
        "per_device_train_batch_size": 30 // world,
        "steps_per_generation": 1,
        "num_generations": 6,
        "max_steps": steps,
        "optim": "sgd",
        "on_exhausted": policy,
        # Seldom enough for a batch, or always
        "generation_budget": 2.0 if policy == "shrink" else 100.0,
        "prompt_selection": selection,
        "max_staleness": 2,
    }


def main(output_dir: str, mode: str, steps: str = "0") -> None:
    world = 1
    if "RANK" in os.environ:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
        world = dist.get_world_size()
    # 12 rows are 3 groups of 4: with two ranks of 6 rows the second group straddles them
    layout = {"per_device_train_batch_size": 12 // world, "steps_per_generation": 1}
    options = {
        "generate": {"max_steps": 50},
        "replay": {"max_steps": 6, "learning_rate": 1e-2},
        "predictive": {"max_steps": 12, "learning_rate": 1e-2, "prompt_selection": "predictive"},
        "shrink": {"max_steps": 6, "generation_budget": 2.0},
        "raise": {"max_steps": 6, "generation_budget": 1.0, "on_exhausted": "raise"},
        "dry": {"max_steps": 6, "generation_budget": 2.0},
    }.get(mode) or straddling(mode, int(steps), world)

    def uneven(completion_ids, **kwargs):
        return rare_first_token(completion_ids)

    reward = {"dry": lambda completion_ids, **kwargs: [0.0] * len(completion_ids)}.get(mode, uneven)
    trainer = dapo_trainer(
        Path(output_dir) / f"world{world}",
        reward,
        trainer_args={"model": build_policy(0, **SMALL)},
        **{**layout, **options},
    )
    watch = Watch(trainer)
    if mode in ("replay", "predictive") or "-" in mode:
        type(trainer)._generate_single_turn = fixed_completions
    error = None
    try:
        trainer.train()
    except GenerationBudgetExhausted as exhausted:
        error = str(exhausted)
    state = trainer.sampler.state()
    result = {
        "world": trainer.accelerator.num_processes,
        "steps": trainer.state.global_step,
        "weights": weights(trainer).double().tolist(),
        "ledger": trainer.sampler.ledger.state_dict(),
        "state": state.values,
        "arrays": {name: array.tolist() for name, array in state.arrays.items()},
        "waiting": state.waiting,
        "carried": sum(logged(trainer, "dynamic_sampling/staleness_max")),
        "trained": watch.batches,
        "losses": logged(trainer, "loss"),
        "stop_reason": trainer.stop_reason,
        "error": error,
    }
    path = Path(output_dir) / f"world{world}-rank{trainer.accelerator.process_index}.json"
    path.write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
