"""The worlds that benchmarks run in: how long the sums are, how large the policy is, and how it is warmed up."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset

from dapo_ext.playground import make_dataset, warm_start


@dataclass(frozen=True)
class World:
    """
    What all runs of a table share.

    Attributes:
        name (`str`):
            Its key in `WORLDS`.
        max_completion_length (`int`):
            Tokens after which a completion is cut off, in training and in evaluation.
        max_terms (`int`):
            Most terms of a sum; the fewest are 2.
        warm_start (`Mapping`):
            Arguments of [`~dapo_ext.playground.warm_start`] beside directory and seed.
        settings (`Mapping`):
            Fields of every trainer's configuration.
        evaluation_batch (`int`):
            Completions sampled at a time in an evaluation.
    """

    name: str
    max_completion_length: int = 48
    max_terms: int = 10
    warm_start: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluation_batch: int = 512

    def dataset(self, split: str, size: int, seed: int = 0) -> Dataset:
        """Prompts of a split, with 2 to `max_terms` terms."""
        return make_dataset(split, size, seed, max_terms=self.max_terms)

    def warm_start_dir(self, warm_starts: Path, seed: int) -> Path:
        """Where a warm start of this world lies under the directory of all."""
        return warm_starts / (f"seed{seed}" if self is PLAYGROUND else f"{self.name}-seed{seed}")

    def make_warm_start(self, warm_starts: Path, seed: int) -> Path:
        """Its directory, once it is there."""
        where = device() if self.on_gpu else "cpu"
        directory = self.warm_start_dir(warm_starts, seed)
        return warm_start(directory, seed=seed, max_terms=self.max_terms, device=where, **self.warm_start)

    @property
    def on_gpu(self) -> bool:
        """Whether it is meant for a GPU."""
        return "bf16" in self.settings


def device() -> str:
    """Where a policy that gains from a GPU goes."""
    return "cuda" if torch.cuda.is_available() else "cpu"


# With so many steps written twice, long sums reach the limit, and the spread of lengths is large
REDO_RATE = 0.4
# 24M parameters: what memory is measured with where there is no GPU; layer inputs are multiples of 64, as the 4-bit
# kernels need them
MEDIUM_POLICY = {
    "hidden_size": 512,
    "num_hidden_layers": 8,
    "intermediate_size": 1536,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "head_dim": 64,
}
# 38M parameters
LARGE_POLICY = {
    "hidden_size": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "intermediate_size": 1536,
    "max_length": 640,
}
LARGE_WARM_START = {
    "steps": 1500,
    "learning_rate": 8e-4,
    "policy": LARGE_POLICY,
}
# On a machine without a GPU the configurations can still be built, which is what a dry run does
ON_GPU = {"bf16": True, "use_cpu": not torch.cuda.is_available()}

PLAYGROUND = World("playground")
WORLDS = {
    world.name: world
    for world in (
        PLAYGROUND,
        World("redo", warm_start={"redo_rate": REDO_RATE}),
        # The playground's own sums, for pools that have the accept rates they were made for
        World("gpu-short", warm_start=LARGE_WARM_START, settings=ON_GPU, evaluation_batch=2048),
        # The longest right answer without a redo has 159 tokens
        World("gpu", 256, 40, LARGE_WARM_START, ON_GPU, evaluation_batch=2048),
        World("gpu-redo", 192, 40, {**LARGE_WARM_START, "redo_rate": REDO_RATE}, ON_GPU, evaluation_batch=2048),
    )
}
