"""What the runs of the rollouts benchmark come to."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.curve import at
from benchmarks.harness.paired import Run, by_row, differences
from benchmarks.harness.pools import POOLS
from benchmarks.harness.results import interval
from benchmarks.rollouts.rows import BASELINE


# (figure, policy it is compared with)
COMPARISONS = (
    ("accuracy_equal_steps", "uniform"),
    ("accuracy_equal_tokens", "plain"),
    ("accuracy_equal_time", "plain"),
)
# On which axis it is seen how soon a run reaches the accuracy that the baseline ends with
COSTS = ("seconds", "cpu_seconds", "tokens")


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
        over its second half; `seconds_to_baseline`, `cpu_seconds_to_baseline` and `tokens_to_baseline` are `None` for a
        run that never reaches the baseline's final accuracy.
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
        **{f"{axis}_to_baseline": first_reaching(points, goal, axis) for axis in COSTS},
    }


def first_reaching(points: Sequence[Mapping[str, float]], accuracy: float, axis: str) -> float | None:
    """Where a curve first reaches an accuracy, by linear interpolation between its points; None if it never does."""
    for before, after in itertools.pairwise(points):
        if after["accuracy"] >= accuracy:
            share = (accuracy - before["accuracy"]) / (after["accuracy"] - before["accuracy"])
            return before[axis] + max(share, 0.0) * (after[axis] - before[axis])
    return None


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """
    The tables.

    Args:
        records (`Sequence[Mapping]`):
            Runs of every policy on every pool, with the same warm starts and seeds.

    Returns:
        `dict`: by pool `equal_tokens` and by policy the means of [`measure`] with 95 % bootstrap intervals, `paired`
        differences, corrected together for those of the pool, and `speed_up`.
    """
    summary: dict[str, Any] = {}
    for pool in POOLS:
        rows = by_row([record for record in records if record["spec"]["pool"] == pool])
        tokens = min(record["points"][-1]["tokens"] for runs in rows.values() for record in runs.values())
        figures = {
            policy: {
                run: measure(record["points"], rows[BASELINE][run]["points"], tokens) for run, record in runs.items()
            }
            for policy, runs in rows.items()
        }
        paired = _paired(figures)
        summary[pool] = {
            policy: {
                **_means(list(runs.values())),
                "paired": {name: found for (compared, name), found in paired.items() if compared == policy},
                "speed_up": _speed_up(runs, figures[BASELINE]),
            }
            for policy, runs in figures.items()
        }
        summary[pool]["equal_tokens"] = tokens
    return summary


def _paired(figures: Mapping[str, Mapping[Run, Mapping[str, Any]]]) -> dict[tuple[str, str], dict[str, Any]]:
    """By policy and name, the differences of a pool."""

    def of(policy: str, name: str) -> dict[Run, float]:
        return {run: figure[name] for run, figure in figures[policy].items()}

    return differences(
        {
            (policy, f"{name}_minus_{other}"): (of(policy, name), of(other, name))
            for name, other in COMPARISONS
            for policy in figures
            if policy != other
        }
    )


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = interval(values) if values else {"mean": None, "interval": None, "values": 0}
    return means


def _speed_up(runs: Mapping[Run, Mapping[str, Any]], baseline: Mapping[Run, Mapping[str, Any]]) -> dict[str, Any]:
    """
    How much sooner than the baseline itself a policy reaches the accuracy that the baseline ends with.

    The baseline's curve may have been there before its end, so that both are read where they first reach it.
    """
    ratios = {}
    for axis in COSTS:
        name = f"{axis}_to_baseline"
        values = [baseline[run][name] / row[name] for run, row in runs.items() if row[name] is not None]
        ratios[axis] = interval(values) if values else {"mean": None, "interval": None, "values": 0}
    return ratios
