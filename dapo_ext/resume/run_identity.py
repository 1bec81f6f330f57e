"""What makes two runs the same run: the fields on which the meaning of a checkpoint's state depends."""

import hashlib
from typing import Any

import numpy as np
from accelerate.logging import get_logger
from datasets import Dataset, IterableDataset

from ..refusals import refusal


logger = get_logger(__name__)

# Rows of the dataset that are looked at, evenly spaced: all rows of a small dataset, milliseconds for a large one
SAMPLED_ROWS = 1024
# Read from the optimizer's state, whatever the configuration says
OPTIMIZER_FIELDS = ("learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon")


def describe_dataset(dataset: Dataset | IterableDataset) -> dict[str, Any]:
    """
    Size, columns and a digest of evenly spaced rows; the columns alone of an iterable dataset.

    Columns of floating-point numbers are left out of the digest: a model that computes them anew may differ in the last
    digit.
    """
    if not isinstance(dataset, Dataset):
        return {"rows": None, "columns": sorted(dataset.column_names or [])}
    exact = [name for name, feature in dataset.features.items() if "float" not in str(getattr(feature, "dtype", ""))]
    positions = np.unique(np.linspace(0, max(len(dataset) - 1, 0), min(SAMPLED_ROWS, len(dataset))).astype(int))
    rows = dataset.with_format("arrow").select_columns(exact).select(positions)
    digest = hashlib.sha256(repr(rows[:].to_pylist()).encode()).hexdigest()
    return {"rows": len(dataset), "columns": sorted(dataset.column_names), "sha256_of_rows": digest[:16]}


def check_same_run(checkpoint: str, there: dict[str, Any], here: dict[str, Any]) -> None:
    """
    Refuse a checkpoint of another configuration.

    Args:
        checkpoint (`str`):
            Its folder, for the message.
        there (`dict`), here (`dict`):
            The fields of the run that wrote it and of the run that resumes from it.

    Raises:
        ValueError: with every field that differs, both values and the remedy.
    """
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    if not names:
        return
    pairs = "; ".join(f"{name} is {there.get(name)!r} there and {here.get(name)!r} here" for name in names)
    reason = f"its state belongs to another run, and what follows would be neither: {pairs}"
    remedy = (
        f"set {', '.join(names)} as they are there, or begin a new run from its weights with model={checkpoint!r} and "
        "another output_dir"
    )
    raise refusal("resume_from_checkpoint", checkpoint, reason, remedy)


def warn_of_optimizer_fields(checkpoint: str, there: dict[str, float], here: dict[str, float]) -> None:
    """Say which changed fields have no effect, because the optimizer's state is the checkpoint's."""
    changed = [f"{name}={here[name]} (it stays {there[name]})" for name in there if there[name] != here[name]]
    if changed:
        logger.warning(
            f"Without effect: {', '.join(changed)}. Optimizer and schedule come from {checkpoint}. To change them, "
            "begin a new run from its weights."
        )
