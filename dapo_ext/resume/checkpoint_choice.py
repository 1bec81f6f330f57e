"""Which checkpoint a run is resumed from: never a torn one, and never none in silence."""

import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from accelerate.logging import get_logger
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from ..refusals import refusal
from .checkpoint_manifest import MANIFEST_FILE, find_damage, is_unfinished, written_at


logger = get_logger(__name__)

FIELD = "resume_from_checkpoint"

GatherObject = Callable[[list], list]


def choose_checkpoint(
    asked: Literal[True] | str | os.PathLike, output_dir: str, reads: bool, gather_object: GatherObject
) -> Path:
    """
    Find the checkpoint to resume from, the same on every rank.

    Args:
        asked (`bool`, `str` or `os.PathLike`):
            `True` for the whole checkpoint of `output_dir` that was written last, or a checkpoint's folder.
        output_dir (`str`):
            The run's folder.
        reads (`bool`):
            Whether this rank looks at the disk: one rank of each node that saves.
        gather_object (`Callable`):
            Concatenates a list over ranks; called on every rank.

    Returns:
        `Path`: the checkpoint's folder.

    Raises:
        ValueError: when there is no such checkpoint, or it is torn; with the file and what to do.
    """
    if asked is True:
        return _newest_whole(output_dir, reads, gather_object)
    folder = Path(asked)
    damage = _agree(lambda: _damage(folder), reads, gather_object)
    if damage is not None:
        remedy = (
            f"pass True for the newest whole checkpoint of output_dir={output_dir!r}, or the path of another checkpoint"
        )
        raise refusal(FIELD, str(folder), damage, remedy)
    return folder


def checkpoints_of(output_dir: str | os.PathLike) -> list[Path]:
    """
    A run's checkpoint folders: those that do not tell when they were written, then the others, the newest first.

    By the time in the manifest, since a run that begins anew in the folder of another starts with low numbers again.
    Those that do not tell are no candidates; they come first because each of them may be newer than what is chosen.
    """
    pattern = re.compile(rf"{PREFIX_CHECKPOINT_DIR}-(\d+)")
    folder = Path(output_dir)
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    numbered = [(int(match.group(1)), name) for name in names if (match := pattern.fullmatch(name))]
    aged = [(written_at(folder / name), number, name) for number, name in numbered]
    ordered = sorted(aged, key=lambda entry: (entry[0] is None, entry[0] or "", entry[1]), reverse=True)
    return [folder / name for _, _, name in ordered]


def _newest_whole(output_dir: str, reads: bool, gather_object: GatherObject) -> Path:
    found = gather_object([folder.name for folder in checkpoints_of(output_dir)] if reads else [])
    skipped: list[str] = []
    for folder in (Path(output_dir) / name for name in dict.fromkeys(found)):
        damage = _agree(partial(_find_obstacle, folder), reads, gather_object)
        if damage is None:
            if skipped:
                logger.warning(f"Skipped {'; '.join(skipped)}. Training resumes from {folder}.")
            return folder
        skipped.append(f"{folder}: {damage}")
    if skipped:
        reason = f"no checkpoint there can be resumed from: {'; '.join(skipped)}"
        remedy = (
            "pass the path of a checkpoint, which is how one that another trainer wrote is resumed from, or leave "
            f"{FIELD} out to begin anew"
        )
        raise refusal(FIELD, True, reason, remedy)
    reason = f"{output_dir} holds no checkpoint"
    raise refusal(FIELD, True, reason, "leave it out at the first start, or mend output_dir")


def _damage(folder: Path) -> str | None:
    return find_damage(folder) if folder.is_dir() else "there is no such folder"


def _find_obstacle(folder: Path) -> str | None:
    return _damage(folder) or _foreign(folder)


def _foreign(folder: Path) -> str | None:
    if (folder / MANIFEST_FILE).exists():
        return None
    return f"it has no {MANIFEST_FILE}, so that nobody can tell whether it is whole"


def _agree(look: Callable[[], str | None], reads: bool, gather_object: GatherObject) -> str | None:
    """What is wrong on the first node that finds something wrong, the same answer on every rank."""
    return next((damage for damage in gather_object([look()] if reads else []) if damage is not None), None)


def refuse_missing(folder: Path, missing: list[str], rank: int, gather_object: GatherObject) -> None:
    """Refuse, on every rank, a checkpoint without the files that one of the ranks will read."""
    found = gather_object([(name, rank) for name in missing])
    if found:
        name, rank = found[0]
        reason = f"{name}, which rank {rank} goes on from, is not part of it on that rank's node"
        remedy = (
            "start every node with the ranks and the folder it had (save_on_each_node), and with the same kind of "
            "sharding, or begin a new run from the weights with model=... and another output_dir"
        )
        raise refusal(FIELD, str(folder), reason, remedy)


def remove_torn(output_dir: Path) -> None:
    """Delete the checkpoints of a run that were not written to their end."""
    for folder in checkpoints_of(output_dir):
        if is_unfinished(folder):
            logger.warning(f"{folder} was not written to its end and is deleted (save_total_limit).")
            shutil.rmtree(folder)
