"""The page's section on memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.page.markdown import table, with_interval


LABELS = {"full": "full", "lora": "LoRA", "qlora": "4-bit (nf4, double quantization) + LoRA"}
TRAINERS = {"dapo": "DAPO", "pggrpo": "PG-GRPO with a reference"}
COLUMNS = ("weights", "reference", "gradients", "optimizer", "peak")
LIMITS = (
    "A policy of some 25M parameters on a CPU: activations, generation and the libraries' own buffers weigh more in "
    "the peak here than beside a model of billions of parameters, and 4-bit layers are dequantized one at a time into "
    "float32, where a GPU computes in bfloat16. What the other columns do not name is the larger part of most peaks, "
    "and more with LoRA than without, so that LoRA's peak lies above full training's here where there is no "
    "reference. Step times on a CPU say little of a GPU's, whose kernels for 4-bit layers are others. No GPU was "
    "measured."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Table of what each kind of training holds."""
    ratios = result["summary"].get("step_time_over_full", {})
    rows = [
        [
            f"{TRAINERS[row['trainer']]}, {LABELS[row['kind']]}",
            f"{row['trained_parameters']:,}",
            *(f"{row[f'{column}_mib']:,.1f}" for column in COLUMNS),
            *_step_time(row, ratios),
        ]
        for row in result["seeds"][0]["rows"]
    ]
    intro = (
        f"MiB held when training a policy of {result['configs']['policy']['parameters']:,} parameters in float32. "
        "`peak` is the largest size of the process beyond what it had before the policy was loaded."
    )
    header = ["training", "trained parameters", *COLUMNS]
    if ratios:
        header.append("step time over full training's")
        steps = len(result["seeds"][0]["step_seconds"]["dapo"]["full"])
        intro += (
            f" Step times are of trainers that take turns in one process: the median of the ratios of {steps} steps, "
            "the first step of each left out, with its interval."
        )
    return intro + "\n\n" + table(header, rows)


def _step_time(row: Mapping[str, Any], ratios: Mapping[str, Any]) -> list[str]:
    if not ratios:
        return []
    return ["1" if row["kind"] == "full" else with_interval(ratios[f"{row['trainer']}/{row['kind']}"])]
