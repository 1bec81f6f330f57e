"""Peak memory of a few steps, each trainer in a process of its own."""

import multiprocessing
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import psutil
import torch

from benchmarks.harness.peak_size import peak_resident_bytes
from benchmarks.overhead.rows import PROMPTS, Row
from benchmarks.overhead.turns import build_row


MEMORY_STEPS = 2  # from the second on the optimizer's state is held beside the activations
# One micro-batch a step, whose activations are most of the peak; more of them take more time alone
ONE_MICRO_BATCH = {"steps_per_generation": 1, "gradient_accumulation_steps": 1}
MIB = 2**20


def peak_memory(
    rows: Mapping[str, Row], layout: Mapping[str, Any], seed: int, policy=None, prompts: int = PROMPTS
) -> dict[str, float]:
    """
    Peak memory of each row in MiB, at steps of one micro-batch: what the GPU held at most, or without one the process's
    largest resident set beyond what it had before the policy was built.

    Args:
        rows (`Mapping[str, Row]`), layout (`Mapping[str, Any]`), seed (`int`), policy (`Mapping`, *optional*), prompts
        (`int`, *optional*):
            As in [`~benchmarks.overhead.turns.step_seconds`].
    """
    context = multiprocessing.get_context("spawn")
    peaks = {}
    for name in rows:
        with ProcessPoolExecutor(1, mp_context=context) as process:  # a new one for each row
            peaks[name] = process.submit(_peak, rows[name], dict(layout), seed, policy, prompts).result()
    return peaks


def _peak(row: Row, layout: dict[str, Any], seed: int, policy, prompts: int) -> float:
    torch.set_num_threads(1)
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as directory:
        settings = {"seed": seed, "max_steps": MEMORY_STEPS, **layout, **({} if row.is_offline else ONE_MICRO_BATCH)}
        build_row(row, directory, settings, policy, prompts, []).train()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / MIB
    return (peak_resident_bytes() - before) / MIB
