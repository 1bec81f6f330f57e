"""Dynamic sampling's state beside the host's in a checkpoint, as JSON."""

import json
import os
from pathlib import Path
from typing import Any

from accelerate.logging import get_logger
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR


logger = get_logger(__name__)

STATE_FILE = "dynamic_sampling.json"


def save_state(output_dir: str, global_step: int, state: dict[str, Any]) -> None:
    """Write the state into the checkpoint of `global_step`, whole or not at all."""
    path = Path(output_dir) / f"{PREFIX_CHECKPOINT_DIR}-{global_step}" / STATE_FILE
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(state, indent=2))
    os.replace(partial, path)


def load_state(checkpoint: str) -> dict[str, Any] | None:
    """
    Read the state from a checkpoint.

    Returns:
        `dict` or `None`: `None`, with a warning, when the checkpoint was written without dynamic sampling.
    """
    path = Path(checkpoint) / STATE_FILE
    if not path.exists():
        logger.warning(
            f"{checkpoint} holds no {STATE_FILE}: it was written without dynamic sampling, so the stream of extra "
            "prompts and the totals start from their beginning."
        )
        return None
    return json.loads(path.read_text())
