"""
The runs of a table, carried out and kept.

Finished runs lie beside the result file, so that an interrupted benchmark continues where it was; runs are independent
processes with one thread each, as many at a time as asked for.
"""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.harness.results import commit_here
from benchmarks.harness.run_spec import RunSpec
from benchmarks.harness.worlds import WORLDS
from dapo_ext.reporting.progress import make_progress


class OutOfTime(Exception):
    """A campaign stopped between two runs; the same command goes on with it."""


def run_all(
    specs: Sequence[RunSpec],
    work: Callable[[RunSpec, Path], dict[str, Any]],
    store: Path,
    warm_starts: Path,
    jobs: int,
    deadline: float | None = None,
) -> list[dict[str, Any]]:
    """
    Carry out the runs that are not in `store` yet.

    Args:
        specs (`Sequence[RunSpec]`):
            What to run.
        work (`Callable`):
            A module-level function that carries out one run, given the warm start's directory.
        store (`Path`):
            Directory with one JSON file per finished run.
        warm_starts (`Path`):
            Directory of warm starts, made here where they are missing.
        jobs (`int`):
            Processes at a time.
        deadline (`float`, *optional*):
            Reading of `time.monotonic()` after which no run should go on: none is begun that would outlast it if it
            took as long as the longest so far.

    Returns:
        `list[dict]`: one record for each of `specs`, in their order, with the `commit` that made it.

    Raises:
        ValueError: when `store` holds a run of the same name with another specification.
        OutOfTime: when the deadline leaves runs undone.
    """
    store.mkdir(parents=True, exist_ok=True)
    missing = [spec for spec in specs if not _is_stored(spec, store)]
    longest = max((json.loads(file.read_text()).get("wall_seconds", 0.0) for file in store.glob("*.json")), default=0.0)
    console = Console()
    context = multiprocessing.get_context("spawn")
    commit = commit_here()  # of the code that is loaded, whatever is checked out in the meantime
    with ProcessPoolExecutor(jobs, mp_context=context) as pool, make_progress(console) as progress:
        starts = sorted({(spec.world, spec.start) for spec in missing})
        list(pool.map(_warm_start, starts, [warm_starts] * len(starts)))
        task = progress.add_task("Runs", total=len(missing), status="")
        waiting, running, done = list(missing), {}, 0
        while waiting or running:
            while waiting and len(running) < jobs and _fits(longest, deadline):
                spec = waiting.pop(0)
                running[pool.submit(_run, spec, work, store, warm_starts, commit)] = spec
            if not running:
                raise OutOfTime(f"{len(specs) - len(waiting)} of {len(specs)} runs are done. Run the command again.")
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                record, spec = future.result(), running.pop(future)
                longest, done = max(longest, record["wall_seconds"]), done + 1
                last = record["points"][-1]
                status = f"{spec.key}: {last['accuracy']:.3f} after {last['tokens']:,} tokens"
                progress.update(task, completed=done, status=status)
                if not console.is_terminal:
                    line = f"{done}/{len(missing)} {status} in {record['wall_seconds']:.0f} s"
                    console.print(line, soft_wrap=True, highlight=False)
    return [json.loads(_path(spec, store).read_text()) for spec in specs]


def _fits(seconds: float, deadline: float | None) -> bool:
    return deadline is None or time.monotonic() + seconds < deadline


def _path(spec: RunSpec, store: Path) -> Path:
    return store / f"{spec.key}.json"


def _is_stored(spec: RunSpec, store: Path) -> bool:
    path = _path(spec, store)
    if not path.exists():
        return False
    # A field that did not exist when the run was made had the value that is its default now
    defaults = {entry.name: entry.default for entry in fields(spec) if entry.default is not MISSING}
    if defaults | json.loads(path.read_text())["spec"] != json.loads(json.dumps(asdict(spec))):
        raise ValueError(f"{path} is of a run with other settings. Remove it, or choose another --out.")
    return True


def _warm_start(start: tuple[str, int], warm_starts: Path) -> None:
    torch.set_num_threads(1)
    world, seed = start
    WORLDS[world].make_warm_start(warm_starts, seed)


def _run(spec: RunSpec, work: Callable, store: Path, warm_starts: Path, commit: str | None) -> dict[str, Any]:
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    started = time.monotonic()
    record = {"spec": asdict(spec), **work(spec, spec.where.warm_start_dir(warm_starts, spec.start))}
    record["commit"] = commit
    record["wall_seconds"] = time.monotonic() - started
    with tempfile.NamedTemporaryFile("w", dir=store, delete=False, suffix=".partial") as file:
        json.dump(record, file)
    os.replace(file.name, _path(spec, store))
    return record
