"""Parts of a measurement, kept beside the result file, so that an interrupted one goes on where it was."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness.results import commit_here
from benchmarks.harness.stored_runs import OutOfTime
from dapo_ext.reporting.progress import make_progress


class Parts:
    """
    Measures what has not been measured yet, one part after the other.

    Args:
        store (`Path`):
            Directory with one JSON file per part.
        settings (`Mapping`):
            What the parts are measured with; a part that was measured with other settings is an error.
        deadline (`float`, *optional*):
            Reading of `time.monotonic()`: no part is begun that would outlast it if it took as long as the longest.

    Attributes:
        commits (`list[str | None]`):
            Of every part that was asked for so far.
    """

    def __init__(self, store: Path, settings: Mapping[str, Any], deadline: float | None = None):
        self.store, self.deadline = store, deadline
        self.settings = json.loads(json.dumps(settings))
        self.commits: list[str | None] = []
        self._commit = commit_here()  # of the code that is loaded, whatever is checked out in the meantime
        store.mkdir(parents=True, exist_ok=True)

    def measure(self, plan: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
        """
        What was measured, by part.

        Args:
            plan (`Mapping[str, Callable]`):
                By the name of a part, what measures it where it is missing.

        Raises:
            ValueError: when a part was measured with other settings.
            OutOfTime: when the deadline leaves parts to be measured.
        """
        console = Console()
        with make_progress(console) as progress:
            task = progress.add_task("Parts", total=len(plan), status="")
            measured = {}
            for number, (name, work) in enumerate(plan.items(), start=1):
                part = self._stored(name) or self._measured(name, work)
                measured[name] = part["measured"]
                self.commits.append(part.get("commit"))
                line = f"{name} in {part['wall_seconds']:.0f} s"
                progress.update(task, completed=number, status=line)
                if not console.is_terminal:
                    console.print(f"{number}/{len(plan)} {line}", soft_wrap=True, highlight=False)
        return measured

    def _stored(self, name: str) -> dict[str, Any] | None:
        path = self._path(name)
        if not path.exists():
            return None
        part = json.loads(path.read_text())
        if part["settings"] != self.settings:
            raise ValueError(f"{path} was measured with other settings. Remove it, or choose another --out.")
        return part

    def _measured(self, name: str, work: Callable[[], Any]) -> dict[str, Any]:
        if self.deadline is not None and time.monotonic() + self._longest() > self.deadline:
            raise OutOfTime(f"Stopped before {name}. Run the command again.")
        started = time.monotonic()
        measured = json.loads(json.dumps(work()))
        part = {"settings": self.settings, "measured": measured, "commit": self._commit}
        part["wall_seconds"] = time.monotonic() - started
        partial = self._path(name).with_suffix(".partial")
        partial.write_text(json.dumps(part))
        partial.rename(self._path(name))
        return part

    def _path(self, name: str) -> Path:
        return self.store / f"{name}.json"

    def _longest(self) -> float:
        return max((json.loads(path.read_text())["wall_seconds"] for path in self.store.glob("*.json")), default=0.0)
