"""Parts of a measurement, kept beside the result file, so that an interrupted one goes on where it was."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness.playground_runs import OutOfTime


class Parts:
    """
    Measures what has not been measured yet.

    Args:
        store (`Path`):
            Directory with one JSON file per part.
        settings (`Mapping`):
            What the parts are measured with; a part that was measured with other settings is an error.
        deadline (`float`, *optional*):
            Reading of `time.monotonic()`: no part is begun that would outlast it if it took as long as the longest.
    """

    def __init__(self, store: Path, settings: Mapping[str, Any], deadline: float | None = None):
        self.store, self.deadline = store, deadline
        self.settings = json.loads(json.dumps(settings))
        store.mkdir(parents=True, exist_ok=True)

    def measure(self, name: str, work: Callable[[], Any]) -> Any:
        """The part of this name; `work` measures it where it is missing."""
        path = self.store / f"{name}.json"
        if path.exists():
            part = json.loads(path.read_text())
            if part["settings"] != self.settings:
                raise ValueError(f"{path} was measured with other settings. Remove it, or choose another --out.")
            return part["measured"]
        if self.deadline is not None and time.monotonic() + self._longest() > self.deadline:
            raise OutOfTime(f"Stopped before {name}. Run the command again.")
        started = time.monotonic()
        part = {"settings": self.settings, "measured": json.loads(json.dumps(work()))}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(part | {"wall_seconds": time.monotonic() - started}))
        partial.rename(path)
        return part["measured"]

    def _longest(self) -> float:
        return max((json.loads(path.read_text())["wall_seconds"] for path in self.store.glob("*.json")), default=0.0)
