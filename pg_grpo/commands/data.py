"""The dataset of a training command: on the Hub, or in a local file or folder."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import datasets
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict, load_dataset, load_from_disk
from datasets.exceptions import DatasetGenerationError
from trl import DatasetMixtureConfig, ScriptArguments, get_dataset


Splits: TypeAlias = DatasetDict | IterableDatasetDict
# Suffix of a local file -> the loader of `datasets` that reads it
FILE_LOADERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
# Files that `save_to_disk` leaves, for a dataset and for one with splits
SAVED_MARKERS = ("state.json", "dataset_dict.json")


def load_splits(script: ScriptArguments, mixture: DatasetMixtureConfig, note: Callable[[str], None]) -> Splits:
    """
    Load what `dataset_name` or `datasets` names.

    Args:
        script ([`~trl.ScriptArguments`]):
            `dataset_name` is a local JSON, JSON lines, Parquet or CSV file, a folder written by `save_to_disk`, a
            folder of such files, or a name on the Hub.
        mixture ([`~trl.DatasetMixtureConfig`]):
            TRL's mixture, which wins over `dataset_name`.
        note (`Callable`):
            Told when both are given.

    Returns:
        `DatasetDict` or `IterableDatasetDict`: by split; a dataset without splits is the one asked for.

    Raises:
        ValueError: when neither is given, a path that looks local does not exist, or a file holds something else than
            its name says.
    """
    if mixture.datasets:
        if script.dataset_name:
            note("`datasets` and `dataset_name` are both given; `datasets` is used.")
    elif not script.dataset_name:
        raise ValueError("no dataset is given. Set `dataset_name` (file, folder or name on the Hub) or `datasets`.")
    try:
        return get_dataset(mixture) if mixture.datasets else _load_named(script)
    except DatasetGenerationError as error:
        named = [str(each.data_files or each.path) for each in mixture.datasets] or [script.dataset_name]
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"the dataset {', '.join(named)} cannot be read: {reason}") from error


def pick_split(splits: Splits, name: str, field: str) -> Dataset | IterableDataset:
    """
    One split, by name.

    Raises:
        ValueError: naming the splits there are.
    """
    if name not in splits:
        near = difflib.get_close_matches(name, list(splits), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"`{field}={name!r}` is no split of the dataset, which has {sorted(splits)}.{hint}")
    return splits[name]


def require_columns(dataset: Dataset | IterableDataset, columns: tuple[str, ...]) -> None:
    """
    Check that columns are there, as far as they are known before the first row is read.

    Raises:
        ValueError: naming what is missing and what there is.
    """
    present = dataset.column_names
    missing = [column for column in columns if present is not None and column not in present]
    if missing:
        raise ValueError(f"the dataset has no column {missing[0]!r}; it has {present}. Rename the one that holds it.")


def _load_named(script: ScriptArguments) -> Splits:
    path, streaming = Path(script.dataset_name), script.dataset_streaming
    if path.exists():
        datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # else a server is told that a local file is being read
    if path.is_file():
        if path.suffix not in FILE_LOADERS:
            raise ValueError(f"{path} is no file that can be read; those that can end in {sorted(FILE_LOADERS)}.")
        files = {script.dataset_train_split: str(path)}
        return load_dataset(FILE_LOADERS[path.suffix], data_files=files, streaming=streaming)
    if any((path / marker).is_file() for marker in SAVED_MARKERS):
        return _load_saved(path, script.dataset_train_split, streaming)
    if not path.exists() and (path.suffix in FILE_LOADERS or script.dataset_name.startswith((".", "/", "~"))):
        raise ValueError(f"`dataset_name={script.dataset_name!r}` does not exist.")
    return load_dataset(script.dataset_name, name=script.dataset_config, streaming=streaming)


def _load_saved(path: Path, split: str, streaming: bool) -> Splits:
    saved: Any = load_from_disk(str(path))
    splits = saved if isinstance(saved, DatasetDict) else DatasetDict({split: saved})
    if not streaming:
        return splits
    return IterableDatasetDict({name: dataset.to_iterable_dataset() for name, dataset in splits.items()})
