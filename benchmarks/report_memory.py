"""The page's section on memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import table


LABELS = {"full": "full", "lora": "LoRA", "qlora": "4-bit (nf4, twice quantized) + LoRA"}
TRAINERS = {"dapo": "DAPO", "pggrpo": "PG-GRPO with a reference"}
COLUMNS = ("weights", "reference", "gradients", "optimizer", "peak")
LIMITS = (
    "A policy of some 25M parameters on a CPU: activations, generation and the libraries' own buffers weigh more in "
    "the peak here than beside a model of billions of parameters, and 4-bit layers are dequantized one at a time into "
    "float32, where a GPU computes in bfloat16. What the other columns do not name is the larger part of most peaks, "
    "and more with LoRA than without, so that LoRA's peak lies above full training's here where there is no "
    "reference. No GPU was measured."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Table of what each kind of training holds."""
    rows = [
        [
            f"{TRAINERS[row['trainer']]}, {LABELS[row['kind']]}",
            f"{row['trained_parameters']:,}",
            *(f"{row[f'{column}_mib']:,.1f}" for column in COLUMNS),
        ]
        for row in result["seeds"][0]["rows"]
    ]
    intro = (
        f"MiB held when training a policy of {result['configs']['policy']['parameters']:,} parameters in float32. "
        "`peak` is the largest size of the process beyond what it had before the policy was loaded."
    )
    return intro + "\n\n" + table(["training", "trained parameters", *COLUMNS], rows)
