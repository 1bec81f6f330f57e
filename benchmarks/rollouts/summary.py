"""What the runs of the rollouts benchmark come to."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.playground_runs import at
from benchmarks.harness.pools import POOLS
from benchmarks.harness.results import interval
from benchmarks.rollouts.rows import BASELINE, POLICIES


# (figure, policy it is compared with)
COMPARISONS = (
    ("accuracy_equal_steps", "uniform"),
    ("accuracy_equal_tokens", "plain"),
    ("accuracy_equal_tokens", "uniform"),
    ("accuracy_equal_time", "plain"),
)


def measure(points: Sequence[Mapping[str, float]], baseline: Sequence[Mapping[str, float]], tokens: float) -> dict:
    """
    Figures of one run.

    Args:
        points (`Sequence[Mapping]`):
            The run's curve.
        baseline (`Sequence[Mapping]`):
            The curve of `grpo` with the same warm start and seed.
        tokens (`float`):
            Generated tokens at which accuracies are compared.

    Returns:
        `dict`: `generated_per_trained` counts generated groups for each informative group trained on, over the run and
        over its second half; `time_to_baseline` and `tokens_to_baseline` are `None` for a run that never reaches the
        baseline's final accuracy.
    """
    last, steps = points[-1], points[-1]["step"]
    half = {name: at(points, "step", steps / 2, name) for name in ("generated_groups", "trained_informative")}
    goal = baseline[-1]["accuracy"]
    return {
        "generated_per_trained": last["generated_groups"] / last["trained_informative"],
        "generated_per_trained_second_half": (last["generated_groups"] - half["generated_groups"])
        / (last["trained_informative"] - half["trained_informative"]),
        "accept_rate": last["informative_groups"] / last["generated_groups"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "cpu_seconds": last["cpu_seconds"],
        "accuracy_equal_steps": last["accuracy"],
        "accuracy_equal_tokens": at(points, "tokens", tokens),
        "accuracy_equal_time": at(points, "seconds", baseline[-1]["seconds"]),
        "time_to_baseline": first_reaching(points, goal, "seconds"),
        "tokens_to_baseline": first_reaching(points, goal, "tokens"),
    }


def first_reaching(points: Sequence[Mapping[str, float]], accuracy: float, axis: str) -> float | None:
    """Where a curve first reaches an accuracy, by linear interpolation between its points; None if it never does."""
    for before, after in itertools.pairwise(points):
        if after["accuracy"] >= accuracy:
            share = (accuracy - before["accuracy"]) / (after["accuracy"] - before["accuracy"])
            return before[axis] + max(share, 0.0) * (after[axis] - before[axis])
    return None


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means, and differences paired by warm start and seed, with 95 % intervals, by pool and policy."""
    summary: dict[str, Any] = {}
    for pool in POOLS:
        runs = {
            (record["spec"]["row"], record["spec"]["start"], record["spec"]["seed"]): record["points"]
            for record in records
            if record["spec"]["pool"] == pool
        }
        tokens = min(points[-1]["tokens"] for points in runs.values())
        pairs = sorted({key[1:] for key in runs})
        figures = {
            policy: [measure(runs[policy, *pair], runs[BASELINE, *pair], tokens) for pair in pairs]
            for policy in POLICIES
        }
        summary[pool] = {policy: _means(rows) for policy, rows in figures.items()}
        for policy, rows in figures.items():
            summary[pool][policy]["paired"] = {
                f"{name}_minus_{other}": _difference(rows, figures[other], name)
                for name, other in COMPARISONS
                if other != policy
            }
            summary[pool][policy]["speed_up"] = _speed_up(rows, figures[BASELINE])
        summary[pool]["equal_tokens"] = tokens
    return summary


# (figure, policy it is compared with)
COMPARISONS = (
    ("accuracy_equal_steps", "uniform"),
    ("accuracy_equal_tokens", "plain"),
    ("accuracy_equal_tokens", "uniform"),
    ("accuracy_equal_time", "plain"),
)


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = interval(values) if values else {"mean": None, "interval": None, "values": 0}
    return means


def _difference(rows, others, name: str) -> dict[str, Any]:
    return interval([row[name] - other[name] for row, other in zip(rows, others, strict=True)])


def _speed_up(rows, baseline) -> dict[str, Any]:
    """Baseline's seconds, and tokens, over those it took to reach the baseline's final accuracy."""
    ratios = {}
    for own, whole in (("time_to_baseline", "seconds"), ("tokens_to_baseline", "tokens")):
        values = [base[whole] / row[own] for row, base in zip(rows, baseline, strict=True) if row[own] is not None]
        ratios[own] = interval(values) if values else {"mean": None, "interval": None, "values": 0}
    return ratios
