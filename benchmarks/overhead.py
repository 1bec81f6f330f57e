"""
Step time of `DAPOTrainer` against TRL's `GRPOTrainer` where both do the same work.

`neutral` is the trainer with dynamic sampling and punishment off; `replay` has dynamic sampling on with rewards that
make every group informative, so that nothing is refilled and all that is left is the bookkeeping. Both train on the
completions TRL's trainer trains on, to the bit. Runs alternate, and a ratio is formed within each repeat.
"""

import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.results import interval, write_result
from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground import build_policy, build_tokenizer, make_dataset


PRESETS = {"quick": {"repeats": 3, "steps": 16}, "full": {"repeats": 8, "steps": 40}}
WARM_UP_STEPS = 4  # not timed: the first generation of a process pays for allocations
LAYOUT = {
    "per_device_train_batch_size": 64,
    "steps_per_generation": 4,
    "gradient_accumulation_steps": 4,  # one optimizer step per generation: the two trainers' denominators agree
    "num_generations": 8,
    "max_completion_length": 40,
    "learning_rate": 1e-4,
    "epsilon_high": 0.28,
    "use_cpu": not torch.cuda.is_available(),
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1000,
    "save_strategy": "no",
}
ROWS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "trl": (GRPOTrainer, GRPOConfig, {}),
    "neutral": (DAPOTrainer, DAPOConfig, {"dynamic_sampling": False, "soft_overlong_cache": 0}),
    "replay": (DAPOTrainer, DAPOConfig, {"dynamic_sampling": True, "soft_overlong_cache": 0}),
}


def distinct(completion_ids, **kwargs) -> list[float]:
    """A reward no two completions share: every group is informative."""
    return [float(i) for i in range(len(completion_ids))]


class _StepClock(TrainerCallback):
    def __init__(self):
        self.ends: list[float] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(time.perf_counter())


def step_seconds(row: str, seed: int, steps: int) -> list[float]:
    """Wall seconds of each optimizer step, generation included, after the warm-up."""
    trainer_class, config_class, changes = ROWS[row]
    clock = _StepClock()
    with tempfile.TemporaryDirectory() as directory:
        trainer = trainer_class(
            model=build_policy(seed),
            reward_funcs=distinct,
            args=config_class(directory, seed=seed, max_steps=steps + WARM_UP_STEPS, **LAYOUT, **changes),
            train_dataset=make_dataset("train", 2048, seed=seed),
            processing_class=build_tokenizer(),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return np.diff(clock.ends)[WARM_UP_STEPS:].tolist()


def run(preset: str, seeds: int, out: str) -> dict[str, Any]:
    """Measure and write; see the module's docstring."""
    transformers.logging.set_verbosity_error()
    settings = PRESETS[preset]
    entries = []
    for seed in range(seeds):
        repeats = []
        for repeat in range(settings["repeats"]):
            order = list(ROWS) if repeat % 2 == 0 else list(reversed(ROWS))
            medians = {row: statistics.median(step_seconds(row, seed, settings["steps"])) for row in order}
            repeats.append(medians)
            print(f"seed {seed} repeat {repeat}: " + "  ".join(f"{row} {medians[row]:.3f} s" for row in ROWS))
        entries.append({"seed": seed, "median_step_seconds": repeats})
    ratios = {
        row: [repeat[row] / repeat["trl"] for entry in entries for repeat in entry["median_step_seconds"]]
        for row in ROWS
        if row != "trl"
    }
    summary = {f"{row}_over_trl": interval(values, np.median) for row, values in ratios.items()}
    for name, value in summary.items():
        print(f"{name}: {value['median']:.3f}  [{value['interval'][0]:.3f}, {value['interval'][1]:.3f}]")
    configs = {row: {**LAYOUT, **changes, **settings} for row, (_, _, changes) in ROWS.items()}
    return write_result(out, "overhead", preset, configs, entries, summary)
