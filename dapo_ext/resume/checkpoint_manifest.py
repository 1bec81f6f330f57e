"""What tells a whole checkpoint from a torn one: a manifest, opened before anything is written, closed at the end."""

import hashlib
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME

from ..whole_files import PARTIAL, write_whole


MANIFEST_FILE = "checkpoint_manifest.json"
# Beginnings of the names of the files that are ours
OWN_FILES = ("dynamic_sampling.", "resume_state_rank", "reference_model.")
# The host's own sign that it was stopped while it wrote (`enable_jit_checkpoint`); it comes before ours and goes after
HOST_SENTINEL = "checkpoint-is-incomplete.txt"
# The host's weights and optimizer are as large as the model: reading them again at every save would cost minutes
DIGEST_LIMIT = 64 * 2**20  # bytes


def open_manifest(folder: Path) -> None:
    """Mark a checkpoint as unfinished, and empty its folder of what an earlier attempt left there."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder, {"complete": False, "written_at": _now()})
    for path in folder.iterdir():
        if path.name in (MANIFEST_FILE, HOST_SENTINEL):
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def close_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """
    Mark a checkpoint as whole: the size of every file, and the digest of those that are ours or small.

    Args:
        folder (`Path`):
            The checkpoint, after every rank has written its files.
        facts (`dict`):
            Plain values to be kept with it, see `read_manifest`.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    left_out = (MANIFEST_FILE, HOST_SENTINEL)
    files = {
        path.relative_to(folder).as_posix(): _describe(path)
        for path in paths
        if path.name not in left_out and path.suffix != PARTIAL
    }
    body = {"complete": True, "written_at": _now(), "files": files, **facts}
    _write(folder, {**body, "sha256": _digest_of_values(body)})


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """
    The manifest's content.

    Returns:
        `dict` or `None`: `None` where there is none, as in a checkpoint that TRL's own trainer wrote.

    Raises:
        ValueError: when it cannot be read, or is not what was written.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return None
    values = json.loads(path.read_bytes())
    if values["complete"] and values.pop("sha256") != _digest_of_values(values):
        raise ValueError(f"{MANIFEST_FILE} is not what was written")
    return values


def find_damage(folder: Path) -> str | None:
    """
    Why a checkpoint cannot be resumed from.

    Returns:
        `str` or `None`: a clause that names the file; `None` when nothing is wrong with it.
    """
    try:
        manifest = read_manifest(folder)
    except (ValueError, KeyError, TypeError):  # not JSON, not text, or not ours
        return f"{MANIFEST_FILE} is damaged"
    if (folder / HOST_SENTINEL).exists():
        return f"the run ended while it was being written ({HOST_SENTINEL} is there)"
    if manifest is None:
        if any(path.name.startswith(OWN_FILES) for path in folder.iterdir()):
            return f"{MANIFEST_FILE} is missing"
        return None if (folder / TRAINER_STATE_NAME).is_file() else f"{TRAINER_STATE_NAME} is missing"
    if not manifest["complete"]:
        return f"the run ended while it was being written ({MANIFEST_FILE} says so)"
    for name, described in manifest["files"].items():
        damage = _compare(folder / name, described)
        if damage is not None:
            return f"{name} {damage}"
    if manifest["weights_only"]:
        return "it holds the weights alone (save_only_model=True)"
    return None


def written_at(folder: Path) -> str | None:
    """
    When a checkpoint was completed, or begun where it was not; text that sorts as the times do.

    Kept in the manifest, since copying a folder loses the times of its files.

    Returns:
        `str` or `None`: `None` where there is no manifest to tell, or a damaged one.
    """
    try:
        manifest = read_manifest(folder)
        return None if manifest is None else manifest["written_at"]
    except (ValueError, KeyError, TypeError):
        return None


def is_unfinished(folder: Path) -> bool:
    """Whether a checkpoint was begun and not brought to its end; its files are not looked at."""
    try:
        manifest = read_manifest(folder)
    except (ValueError, KeyError, TypeError):
        return False  # damaged later
    return manifest is not None and not manifest["complete"]


def _describe(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    ours = path.name.startswith(OWN_FILES)
    return {"size": size, "sha256": _digest(path) if ours or size <= DIGEST_LIMIT else None}


def _compare(path: Path, described: dict[str, Any]) -> str | None:
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != described["size"]:
        return f"has {size} bytes and was written with {described['size']}"
    if described["sha256"] is not None and _digest(path) != described["sha256"]:
        return "is not what was written (its SHA-256 differs)"
    return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest_of_values(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _write(folder: Path, values: dict[str, Any]) -> None:
    write_whole(folder / MANIFEST_FILE, lambda path: path.write_text(json.dumps(values, indent=2)))
