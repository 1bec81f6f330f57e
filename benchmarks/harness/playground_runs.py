"""
Training runs on the playground, the material of most benchmarks: one run is a row of a table with one seed.

A run records held-out accuracy against optimizer steps, generated tokens, and seconds. Time spent on evaluation is left
out. Finished runs are kept beside the result file, so that an interrupted benchmark continues where it was; runs are
independent processes with one thread each, as many at a time as asked for.
"""

import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from transformers import TrainerCallback

from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.long_sums import pass_at_of_long_sums
from benchmarks.harness.results import commit_here
from benchmarks.harness.worlds import PLAYGROUND, WORLDS, World
from dapo_ext import evaluate
from dapo_ext.playground import correctness_reward
from dapo_ext.reporting.progress import make_progress


MOST_DIGITS = 9  # samples of a prompt whose number of right ones is one digit
# What every run shares unless its row changes it: 64 prompts x 8 completions per generation
SETTING: dict[str, Any] = {
    "per_device_train_batch_size": 128,
    "steps_per_generation": 4,
    "num_generations": 8,
    "max_completion_length": PLAYGROUND.max_completion_length,
    "learning_rate": 1e-4,
    "lr_scheduler_type": "constant",
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1,
    "save_strategy": "no",
}


@dataclass(frozen=True)
class RunSpec:
    """One row of a table with one seed; everything a worker process needs to know."""

    row: str
    start: int  # seed of the warm start
    seed: int
    steps: int  # optimizer steps
    evaluate_every: int  # optimizer steps
    changes: Mapping[str, Any] = field(default_factory=dict)  # to SETTING
    pool: str = "fresh"
    held_out: int = 1024  # prompts
    curve_prompts: int | None = None  # how many of them the curve is measured on before the end; None for all
    samples: int = 2  # completions per held-out prompt on the curve; twice as many at the end
    split: str = "held_out"  # or "tuning"
    world: str = PLAYGROUND.name
    token_budget: int | None = None  # generated tokens at which it is measured in full; a trial then ends

    @property
    def where(self) -> World:
        return WORLDS[self.world]

    @property
    def key(self) -> str:
        return f"{self.pool}-{self.row}-start{self.start}-seed{self.seed}"


class Curve(TrainerCallback):
    """
    Held-out accuracy at the beginning, every so many steps and at the end, beside what it took to get there.

    At the end, and after the first generation that brings the generated tokens to the run's budget, it is measured in
    full: on all prompts, with twice the samples, and with every prompt's number of right answers among nine samples or
    fewer as one digit of `successes`. The point of the budget has `at_budget`. Until a generation has been trained on
    the budget does not count, so that all that was paid for has been used; a run on samples of the warm start has paid
    before its first update and stands at its end.
    """

    def __init__(self, spec: RunSpec, tokenizer, counted: CountedReward):
        self.spec, self.tokenizer, self.counted = spec, tokenizer, counted
        self.held_out = spec.where.dataset(spec.split, spec.held_out)
        curve_prompts = spec.held_out if spec.curve_prompts is None else spec.curve_prompts
        self.curve_prompts = self.held_out.select(range(curve_prompts))
        self.points: list[dict[str, Any]] = []
        self._budget_reached = False
        self._paused = 0.0
        self._paused_cpu = 0.0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._started, self._started_cpu = time.perf_counter(), time.process_time()
        self._measure(model, state, self.spec.samples, self.curve_prompts)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step >= self.spec.steps:
            return  # the end is measured anyway
        if not self._budget_reached and self._is_spent and _generations_are_whole(args, state):
            if self.spec.split == "tuning":
                control.should_training_stop = True
            else:
                self._measure_in_full(model, state)
        elif state.global_step % self.spec.evaluate_every == 0:
            self._measure(model, state, self.spec.samples, self.curve_prompts)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self._measure_in_full(model, state)

    @property
    def _is_spent(self) -> bool:
        return self.spec.token_budget is not None and self.counted.tokens >= self.spec.token_budget

    def _measure_in_full(self, model, state) -> None:
        self._measure(model, state, 2 * self.spec.samples, self.held_out)
        if self._is_spent and not self._budget_reached:
            self.points[-1]["at_budget"] = self._budget_reached = True

    def _measure(self, model, state, k: int, prompts: Dataset) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        point = {
            "step": state.global_step,
            "tokens": self.counted.tokens,
            "generated_groups": self.counted.groups,
            "informative_groups": self.counted.informative,
            "seconds": wall - self._started - self._paused,
            "cpu_seconds": cpu - self._started_cpu - self._paused_cpu,
        }
        world = self.spec.where
        result = evaluate(
            model,
            self.tokenizer,
            prompts,
            correctness_reward,
            k=k,
            max_completion_length=world.max_completion_length,
            batch_size=world.evaluation_batch,
        )
        point |= {"accuracy": result.avg_at_k, "pass": result.pass_at_k[k], "k": k}
        point |= {"length": result.mean_length, "truncated": result.truncated_fraction}
        point["pass_at"] = {str(size): share for size, share in result.pass_at_k.items()}
        point["pass_at_long"] = pass_at_of_long_sums(prompts, result.rewards, world.max_terms, list(result.pass_at_k))
        if len(prompts) == self.spec.held_out and k <= MOST_DIGITS:
            point["successes"] = "".join(map(str, (result.rewards >= 0.5).sum(axis=1)))
        self.points.append(point)
        self._paused += time.perf_counter() - wall
        self._paused_cpu += time.process_time() - cpu


def _generations_are_whole(args, state) -> bool:
    """Whether whatever was generated has been trained on; never of a trainer that generates nothing."""
    if not hasattr(args, "steps_per_generation"):
        return False
    updates = args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps
    return state.global_step % updates == 0


def at(points: Sequence[Mapping[str, float]], axis: str, value: float, what: str = "accuracy") -> float:
    """A curve's value at a place on one of its axes, by linear interpolation; the ends hold beyond it."""
    return float(np.interp(value, [point[axis] for point in points], [point[what] for point in points]))


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
