"""Dynamic sampling's state beside the host's in a checkpoint, in open formats: JSON, safetensors, Parquet."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from accelerate.logging import get_logger
from datasets import Dataset, Features
from safetensors.numpy import load_file, save_file
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


logger = get_logger(__name__)

STATE_FILE = "dynamic_sampling.json"
ARRAYS_FILE = "dynamic_sampling.safetensors"
EXAMPLES_FILE = "dynamic_sampling.parquet"


@dataclass
class SamplingState:
    """Everything the next batch depends on."""

    values: dict[str, Any]  # plain types
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)  # dataset rows of the groups that wait


def save_state(output_dir: str, global_step: int, state: SamplingState, features: Features | None) -> None:
    """
    Write the state into the checkpoint of `global_step`, each file whole or not at all, the JSON last.

    Args:
        output_dir (`str`), global_step (`int`):
            The run's folder and the checkpoint's number.
        state ([`SamplingState`]):
            What is written.
        features (`Features` or `None`):
            Column types of the training dataset, so that its rows come back exactly; inferred if `None`.
    """
    folder = Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{global_step}"
    values = {**state.values, "with_examples": bool(state.examples)}
    if state.examples:
        table = _table(state.examples, features)
        _write_whole(folder / EXAMPLES_FILE, lambda path: pyarrow.parquet.write_table(table, path))
    # Contiguous copies: safetensors writes the memory as it lies
    arrays = {name: np.ascontiguousarray(array) for name, array in state.arrays.items()}
    _write_whole(folder / ARRAYS_FILE, lambda path: save_file(arrays, path))
    _write_whole(folder / STATE_FILE, lambda path: path.write_text(json.dumps(values, indent=2)))


def load_state(checkpoint: str) -> SamplingState | None:
    """
    Read the state from a checkpoint.

    Returns:
        [`SamplingState`] or `None`: `None`, with a warning, when the checkpoint was written without dynamic sampling.
    """
    folder = Path(checkpoint)
    if not (folder / STATE_FILE).exists():
        logger.warning(
            f"{checkpoint} holds no {STATE_FILE}: it was written without dynamic sampling, so the stream of extra "
            "prompts and the totals start from their beginning."
        )
        return None
    values = json.loads((folder / STATE_FILE).read_text())
    examples = []
    if values["with_examples"]:
        examples = Dataset(pyarrow.parquet.read_table(folder / EXAMPLES_FILE)).to_list()
    return SamplingState(values, load_file(folder / ARRAYS_FILE), examples)


def _table(examples: list[dict[str, Any]], features: Features | None) -> pyarrow.Table:
    columns = list(examples[0])
    if features is not None and set(columns) <= set(features):
        features = Features({name: features[name] for name in columns})
    else:
        features = None
    return Dataset.from_list(examples, features=features).data.table


def _write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    partial = path.with_suffix(path.suffix + ".partial")
    write(partial)
    os.replace(partial, path)
