"""What the runs of `python -m benchmarks algorithms` come to: pure arithmetic on their records."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.algorithms.rows import BASELINE
from benchmarks.harness.method_runs import START
from benchmarks.harness.results import interval
from benchmarks.page.paired import Record, by_row, differences


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
          tokens, updates, clip shares, entropy and length, and `difference`: paired with the baseline's run of the same
          warm start and seed, at equal tokens, with a 95 % bootstrap interval (of this difference alone), `p` of the
          paired t-test and `p_holm` after Holm's correction for all differences in the table.
    """
    rows = by_row(records)
    start = list(rows.pop(START).values())
    accuracies = {
        name: {run: at_budget(record["points"])["accuracy"] for run, record in runs.items()}
        for name, runs in rows.items()
    }
    table = {name: describe(list(runs.values()), list(accuracies[name].values())) for name, runs in rows.items()}
    against = {name: BASELINE for name in table if name != BASELINE}
    for name, difference in differences(accuracies, against).items():
        table[name]["difference"] = difference
    return {"equal_tokens": token_budget(records), **describe_start(start), "rows": table}


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
        "cpu_seconds": float(np.mean([point["cpu_seconds"] for point in last])),
        "clip": clip,
        "is_offline": _is_offline(runs[0]["points"]),
    }
