"""What the runs of `python -m benchmarks algorithms` come to: pure arithmetic on their records."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.algorithms.rows import BASELINE, OFFLINE_BASELINE
from benchmarks.harness.method_runs import START
from benchmarks.harness.paired import Record, Run, by_row, differences
from benchmarks.harness.results import interval


def at_budget(points: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """
    Where a run was measured in full because its generated tokens had reached the budget.

    An offline run has generated all its tokens before the first update and is measured at its end, as is a run that
    ended before it had spent the budget.
    """
    return next((point for point in points if point.get("at_budget")), points[-1])


def token_budget(records: Sequence[Record]) -> int:
    """
    The budget that all runs have.

    Raises:
        ValueError: when they have several, or none.
    """
    budgets = {record["spec"]["token_budget"] for record in records}
    if len(budgets) != 1 or None in budgets:
        raise ValueError(f"Runs of one table need one token_budget, got {sorted(map(str, budgets))}.")
    return budgets.pop()


def _is_offline(points: Sequence[Mapping[str, float]]) -> bool:
    return points[0]["tokens"] > 0


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """
    The table.

    Args:
        records (`Sequence[Mapping]`):
            Reported runs of each row, with the same warm starts and seeds; the row `"start"` has one per warm start.

    Returns:
        `dict`:

        - `equal_tokens`: the token budget, at which every row's `accuracy` is measured.
        - `start`: accuracy of the warm starts.
        - `rows`: by row, accuracy at equal tokens and at the end with 95 % bootstrap intervals over runs, means of
          tokens, updates, clip shares, entropy and length, and against the baseline's run of the same warm start and
          seed `difference` at equal tokens and `difference_end` at equal updates, in the place of which offline methods
          have `difference_offline`, against the offline baseline; all of them corrected together for their number.
    """
    rows = by_row(records)
    start = list(rows.pop(START).values())
    at_tokens = accuracies(rows, at_budget)
    at_end = accuracies(rows, lambda points: points[-1])
    table = {name: describe(list(runs.values()), list(at_tokens[name].values())) for name, runs in rows.items()}
    others = [name for name in table if name != BASELINE]
    compared = {("difference", name): (at_tokens[name], at_tokens[BASELINE]) for name in others}
    for name in others:
        if not table[name]["is_offline"]:
            compared["difference_end", name] = (at_end[name], at_end[BASELINE])
        elif name != OFFLINE_BASELINE and OFFLINE_BASELINE in table:
            compared["difference_offline", name] = (at_end[name], at_end[OFFLINE_BASELINE])
    for (what, name), difference in differences(compared).items():
        table[name][what] = difference
    return {"equal_tokens": token_budget(records), **describe_start(start), "rows": table}


def accuracies(
    rows: Mapping[str, Mapping[Run, Record]], where: Callable[[Sequence[Mapping[str, Any]]], Mapping[str, Any]]
) -> dict[str, dict[Run, float]]:
    """Accuracy of every run by row, at one of its points."""
    return {
        name: {run: where(record["points"])["accuracy"] for run, record in runs.items()} for name, runs in rows.items()
    }


def describe_start(start: Sequence[Record]) -> dict[str, Any]:
    """What the warm starts are like before training."""
    return {
        "start": interval([record["points"][-1]["accuracy"] for record in start]),
        "start_entropy": float(np.mean([record["entropy"] for record in start])),
        "start_length": float(np.mean([record["points"][-1]["length"] for record in start])),
    }


def describe(runs: Sequence[Record], accuracies: Sequence[float]) -> dict[str, Any]:
    """One row: `accuracies` at equal tokens, and what its runs were like at the end."""
    last = [record["points"][-1] for record in runs]
    spent = [at_budget(record["points"]) for record in runs]
    clip = {name: float(np.mean([record["clip"][name] for record in runs])) for name in runs[0]["clip"]}
    return {
        "accuracy": interval(accuracies),
        "accuracy_end": interval([point["accuracy"] for point in last]),
        "pass_end": interval([point["pass"] for point in last]),
        "tokens_at_budget": float(np.mean([point["tokens"] for point in spent])),
        "steps_at_budget": float(np.mean([point["step"] for point in spent])),
        "runs_short_of_budget": sum(not point.get("at_budget", False) for point in spent),
        "tokens": float(np.mean([point["tokens"] for point in last])),
        "steps": float(np.mean([point["step"] for point in last])),
        "length": float(np.mean([point["length"] for point in last])),
        "truncated": float(np.mean([point["truncated"] for point in last])),
        "entropy": float(np.mean([record["entropy"] for record in runs])),
        "clip": clip,
        "is_offline": _is_offline(runs[0]["points"]),
    }
