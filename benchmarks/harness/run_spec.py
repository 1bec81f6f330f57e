"""One training run on the playground, as a worker process needs to know it: a row of a table with one seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.harness.worlds import PLAYGROUND, WORLDS, World


# What every run shares unless its row changes it: 64 prompts x 8 completions per generation
SETTING: dict[str, Any] = {
    "per_device_train_batch_size": 128,
    "steps_per_generation": 4,
    "num_generations": 8,
    "max_completion_length": PLAYGROUND.max_completion_length,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
    "save_strategy": "no",
}


@dataclass(frozen=True)
class RunSpec:
    """One row of a table with one seed; everything a worker process needs to know."""

    row: str
    start: int  # seed of the warm start
    seed: int
    steps: int  # optimizer steps
    evaluate_every: int  # optimizer steps
    changes: Mapping[str, Any] = field(default_factory=dict)  # to SETTING
    pool: str = "fresh"
    held_out: int = 1024  # prompts
    curve_prompts: int | None = None  # how many of them the curve is measured on before the end; None for all
    samples: int = 2  # completions per held-out prompt on the curve; twice as many at the end
    split: str = "held_out"  # or "tuning"
    world: str = PLAYGROUND.name
    token_budget: int | None = None  # generated tokens at which it is measured in full; a trial then ends

    @property
    def where(self) -> World:
        return WORLDS[self.world]

    @property
    def key(self) -> str:
        return f"{self.pool}-{self.row}-start{self.start}-seed{self.seed}"
