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
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.console import Console
from transformers import TrainerCallback

from dapo_ext import evaluate
from dapo_ext.playground import correctness_reward, make_dataset, warm_start
from dapo_ext.progress import make_progress


MAX_COMPLETION_LENGTH = 48
# What every run shares unless its row changes it: 64 prompts x 8 completions per generation
SETTING: dict[str, Any] = {
    "per_device_train_batch_size": 128,
    "steps_per_generation": 4,
    "num_generations": 8,
    "max_completion_length": MAX_COMPLETION_LENGTH,
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

    @property
    def key(self) -> str:
        return f"{self.pool}-{self.row}-start{self.start}-seed{self.seed}"


class CountedReward:
    """The playground's reward, counting what is generated on the way: tokens, groups, informative groups."""

    __name__ = "correctness_reward"

    def __init__(self, num_generations: int):
        self.num_generations = num_generations
        self.tokens = self.groups = self.informative = 0

    def __call__(self, completions, completion_ids, answer, **kwargs) -> list[float]:
        rewards = correctness_reward(completions=completions, completion_ids=completion_ids, answer=answer)
        groups = np.reshape(rewards, (-1, self.num_generations))
        self.tokens += sum(len(ids) for ids in completion_ids)
        self.groups += len(groups)
        self.informative += int((groups.min(axis=1) < groups.max(axis=1)).sum())
        return rewards


class Curve(TrainerCallback):
    """Held-out accuracy at the beginning, every so many steps and at the end, beside what it took to get there."""

    def __init__(self, spec: RunSpec, tokenizer, counted: CountedReward):
        self.spec, self.tokenizer, self.counted = spec, tokenizer, counted
        self.held_out = make_dataset(spec.split, spec.held_out)
        curve_prompts = spec.held_out if spec.curve_prompts is None else spec.curve_prompts
        self.curve_prompts = self.held_out.select(range(curve_prompts))
        self.points: list[dict[str, float]] = []
        self._paused = 0.0
        self._paused_cpu = 0.0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._started, self._started_cpu = time.perf_counter(), time.process_time()
        self._measure(model, state, self.spec.samples, self.curve_prompts)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.spec.evaluate_every == 0 and state.global_step < self.spec.steps:
            self._measure(model, state, self.spec.samples, self.curve_prompts)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self._measure(model, state, 2 * self.spec.samples, self.held_out)

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
        limit = MAX_COMPLETION_LENGTH
        result = evaluate(
            model, self.tokenizer, prompts, correctness_reward, k=k, max_completion_length=limit, batch_size=512
        )
        point |= {"accuracy": result.avg_at_k, "pass": result.pass_at_k[k], "k": k}
        point |= {"length": result.mean_length, "truncated": result.truncated_fraction}
        self.points.append(point)
        self._paused += time.perf_counter() - wall
        self._paused_cpu += time.process_time() - cpu


def at(points: Sequence[Mapping[str, float]], axis: str, value: float, what: str = "accuracy") -> float:
    """A curve's value at a place on one of its axes, by linear interpolation; the ends hold beyond it."""
    return float(np.interp(value, [point[axis] for point in points], [point[what] for point in points]))


def run_all(
    specs: Sequence[RunSpec], work: Callable[[RunSpec, Path], dict[str, Any]], store: Path, warm_starts: Path, jobs: int
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

    Returns:
        `list[dict]`: one record for each of `specs`, in their order.

    Raises:
        ValueError: when `store` holds a run of the same name with another specification.
    """
    store.mkdir(parents=True, exist_ok=True)
    missing = [spec for spec in specs if not _is_stored(spec, store)]
    console = Console()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool, make_progress(console) as progress:
        starts = sorted({spec.start for spec in missing})
        list(pool.map(_warm_start, starts, [warm_starts] * len(starts)))
        task = progress.add_task("Runs", total=len(missing), status="")
        futures = {pool.submit(_run, spec, work, store, warm_starts): spec for spec in missing}
        for done, future in enumerate(as_completed(futures), 1):
            record = future.result()
            last = record["points"][-1]
            status = f"{futures[future].key}: {last['accuracy']:.3f} after {last['tokens']:,} tokens"
            progress.update(task, completed=done, status=status)
            if not console.is_terminal:
                console.print(f"{done}/{len(missing)} {status} in {last['seconds']:.0f} s", soft_wrap=True)
    return [json.loads(_path(spec, store).read_text()) for spec in specs]


def _path(spec: RunSpec, store: Path) -> Path:
    return store / f"{spec.key}.json"


def _is_stored(spec: RunSpec, store: Path) -> bool:
    path = _path(spec, store)
    if not path.exists():
        return False
    if json.loads(path.read_text())["spec"] != json.loads(json.dumps(asdict(spec))):
        raise ValueError(f"{path} is of a run with other settings. Remove it, or choose another --out.")
    return True


def _warm_start(seed: int, warm_starts: Path) -> None:
    torch.set_num_threads(1)
    warm_start(warm_starts / f"seed{seed}", seed=seed)


def _run(spec: RunSpec, work: Callable, store: Path, warm_starts: Path) -> dict[str, Any]:
    torch.set_num_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    record = {"spec": asdict(spec), **work(spec, warm_starts / f"seed{spec.start}")}
    with tempfile.NamedTemporaryFile("w", dir=store, delete=False, suffix=".partial") as file:
        json.dump(record, file)
    os.replace(file.name, _path(spec, store))
    return record
