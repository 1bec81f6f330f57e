"""
Step time of `DAPOTrainer` against TRL's `GRPOTrainer` where both do the same work.

`neutral` is the trainer with dynamic sampling and punishment off; `replay` has dynamic sampling on with rewards that
make every group informative, so that nothing is refilled and all that is left is the bookkeeping. Both train on the
completions TRL's trainer trains on, to the bit. The trainers run in one process and take turns step by step, each with
a random state of its own, so that a machine whose speed drifts slows all of them alike.
"""

import statistics
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import transformers
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.results import interval, write_result
from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground import build_policy, build_tokenizer, make_dataset


PRESETS = {"quick": {"steps": 12}, "full": {"steps": 60}}
WARM_UP_STEPS = 4  # not timed: the first generations of a process pay for allocations
LAYOUT = {
    "per_device_train_batch_size": 32,
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


class _TakingTurns(TrainerCallback):
    """Lets one trainer make a step while the others wait, and times it; the random state goes with the trainer."""

    def __init__(self, baton: threading.Condition, turns: list[str], row: str):
        self.baton, self.turns, self.row = baton, turns, row  # `turns[0]` is whose turn it is
        self.seconds: list[float] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self._take()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self._started)
        if state.global_step < state.max_steps:
            self._hand_over()
            self._take()

    def _take(self) -> None:
        self.baton.acquire()
        self.baton.wait_for(lambda: self.turns[0] == self.row)
        if hasattr(self, "_random_state"):
            torch.set_rng_state(self._random_state)
        self._started = time.perf_counter()

    def _hand_over(self) -> None:
        self._random_state = torch.get_rng_state()
        self.turns.append(self.turns.pop(0))
        self.baton.notify_all()
        self.baton.release()

    def leave(self) -> None:
        """Give up one's turns for good."""
        self.turns.remove(self.row)
        self.baton.notify_all()
        self.baton.release()


def step_seconds(seed: int, steps: int) -> dict[str, list[float]]:
    """Wall seconds of each optimizer step of each row, generation included, after the warm-up."""
    baton, turns = threading.Condition(), list(ROWS)
    clocks = {row: _TakingTurns(baton, turns, row) for row in ROWS}
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(len(ROWS)) as threads:
        futures = [
            threads.submit(_train, row, seed, steps + WARM_UP_STEPS, f"{directory}/{row}", clock)
            for row, clock in clocks.items()
        ]
        for future in futures:
            future.result()
    return {row: clock.seconds[WARM_UP_STEPS:] for row, clock in clocks.items()}


def _train(row: str, seed: int, steps: int, directory: str, clock: _TakingTurns) -> None:
    trainer_class, config_class, changes = ROWS[row]
    with clock.baton:  # the host seeds the generators while a trainer is built
        trainer = trainer_class(
            model=build_policy(seed),
            reward_funcs=distinct,
            args=config_class(directory, seed=seed, max_steps=steps, **LAYOUT, **changes),
            train_dataset=make_dataset("train", 2048, seed=seed),
            processing_class=build_tokenizer(),
            callbacks=[clock],
        )
        trainer.remove_callback(PrinterCallback)
        clock._random_state = torch.get_rng_state()
    trainer.train()
    clock.leave()


def run(preset: str, seeds: int, out: str) -> dict[str, Any]:
    """Measure and write; see the module's docstring."""
    transformers.logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    settings = PRESETS[preset]
    entries = []
    for seed in range(seeds):
        seconds = step_seconds(seed, settings["steps"])
        entries.append({"seed": seed, "step_seconds": seconds})
        print(f"seed {seed}: " + "  ".join(f"{row} {statistics.median(seconds[row]):.3f} s" for row in ROWS))
    summary = {}
    for row in ROWS:
        if row != "trl":
            pairs = [zip(entry["step_seconds"][row], entry["step_seconds"]["trl"], strict=True) for entry in entries]
            summary[f"{row}_over_trl"] = interval([ours / theirs for pair in pairs for ours, theirs in pair], np.median)
    for name, value in summary.items():
        print(f"{name}: {value['median']:.3f}  [{value['interval'][0]:.3f}, {value['interval'][1]:.3f}]")
    configs = {row: {**LAYOUT, **changes, **settings} for row, (_, _, changes) in ROWS.items()}
    return write_result(out, "overhead", preset, configs, entries, summary)
