"""The page's section on step time."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import table, with_interval


LABELS = {
    "trl": "TRL's `GRPOTrainer`",
    "neutral": "`DAPOTrainer`, dynamic sampling and punishment off",
    "replay": "`DAPOTrainer`, dynamic sampling on, nothing to refill",
}
LIMITS = (
    "A policy of 0.3M parameters makes a step of milliseconds, so bookkeeping weighs more here than beside a model "
    "whose step takes seconds. Memory, several processes and vLLM are not measured. What refilling itself costs is not "
    "overhead but generation, and depends on the prompts."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Table of the step times."""
    rows = []
    for name in result["seeds"][0]["step_seconds"]:
        ratio = result["summary"].get(f"{name}_over_trl")
        seconds = statistics.median(second for entry in result["seeds"] for second in entry["step_seconds"][name])
        rows.append([LABELS[name], f"{seconds:.3f}", with_interval(ratio) if ratio else "1"])
    steps = sum(len(entry["step_seconds"]["trl"]) for entry in result["seeds"])
    intro = (
        "Seconds per optimizer step, generation included, of trainers that train on the same completions to the bit. "
        f"The trainers take turns; a ratio is formed within each of {steps} steps, and its median is shown."
    )
    return intro + "\n\n" + table(["trainer", "median seconds", "ratio to TRL"], rows)
