"""A sampler's state (dynamic sampling's or dynamic pairs') in a checkpoint, as JSON, safetensors and Parquet."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
from accelerate.logging import get_logger
from datasets import Dataset, Features
from safetensors.numpy import load_file, save_file

from ..whole_files import write_whole


logger = get_logger(__name__)

STATE_FILE = "dynamic_sampling.json"
ARRAYS_FILE = "dynamic_sampling.safetensors"
EXAMPLES_FILE = "dynamic_sampling.parquet"
WAITING = "waiting_"  # prefix of the waiting groups' arrays


@dataclass
class SamplingState:
    """Everything the next batch depends on: what was learned so far, and the groups that wait."""

    values: dict[str, Any]  # plain types
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    waiting: dict[str, Any] | None = None  # plain types; None where nothing waits
    waiting_arrays: dict[str, np.ndarray] = field(default_factory=dict)
    waiting_examples: list[dict[str, Any]] = field(default_factory=list)  # dataset rows


def save_state(folder: Path, state: SamplingState, features: Features | None) -> None:
    """
    Write the state into a checkpoint, each file whole or not at all, the JSON last.

    Args:
        folder (`Path`):
            The checkpoint.
        state ([`SamplingState`]):
            What is written.
        features (`Features` or `None`):
            Column types of the training dataset, so that its rows come back exactly; inferred if `None`.
    """
    waiting, arrays = state.waiting, dict(state.arrays)
    if waiting is not None:
        try:
            table = _table(state.waiting_examples, features)
        except (pyarrow.ArrowException, OverflowError) as error:
            # Only rows of iterable datasets can fail here; losing the run over a few groups would be worse
            logger.warning(
                f"The groups that wait for the next batch are not in {folder}, because their dataset rows have no "
                f"column type ({error}). A run resumed from there generates other groups in their place. Give the "
                "dataset features, or set carry_surplus=False."
            )
            waiting = None
        else:
            arrays.update({WAITING + name: array for name, array in state.waiting_arrays.items()})
            write_whole(folder / EXAMPLES_FILE, lambda path: pyarrow.parquet.write_table(table, path))
    # Contiguous copies: safetensors writes the memory as it lies
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    write_whole(folder / ARRAYS_FILE, lambda path: save_file(arrays, path))
    values = {**state.values, "waiting": waiting}
    write_whole(folder / STATE_FILE, lambda path: path.write_text(json.dumps(values, indent=2)))


def load_state(checkpoint: str) -> SamplingState | None:
    """
    Read the state from a checkpoint.

    Returns:
        [`SamplingState`] or `None`: `None`, with a warning, when the checkpoint was written without a sampler's state.
    """
    folder = Path(checkpoint)
    if not (folder / STATE_FILE).exists():
        logger.warning(
            f"{checkpoint} holds no {STATE_FILE}: it was written without dynamic sampling or dynamic pairs, so their "
            "stream and totals start from the beginning."
        )
        return None
    values = json.loads((folder / STATE_FILE).read_text())
    arrays = load_file(folder / ARRAYS_FILE)
    state = SamplingState(values, {name: array for name, array in arrays.items() if not name.startswith(WAITING)})
    state.waiting = values.pop("waiting")
    if state.waiting is not None:
        state.waiting_arrays = {
            name.removeprefix(WAITING): arrays[name] for name in arrays.keys() - state.arrays.keys()
        }
        state.waiting_examples = Dataset(pyarrow.parquet.read_table(folder / EXAMPLES_FILE)).to_list()
    return state


def _table(examples: list[dict[str, Any]], features: Features | None) -> pyarrow.Table:
    columns = list(examples[0])
    if features is not None and set(columns) <= set(features):
        features = Features({name: features[name] for name in columns})
    else:
        features = None
    return Dataset.from_list(examples, features=features).data.table
