"""What the runs of the ablation come to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.ablation.rows import compared_with
from benchmarks.algorithm_summary import at_budget, describe, describe_start, token_budget
from benchmarks.method_runs import START
from benchmarks.paired import Record, by_row, differences


PUNISHMENT = "rewards/soft_overlong_punishment_reward/mean"


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """
    The table.

    Args:
        records (`Sequence[Mapping]`):
            Runs of each row, with the same warm starts and seeds; the row `"start"` has one per warm start.

    Returns:
        `dict`: as [`~benchmarks.algorithm_summary.summarise`], where a row's `difference` is at the end of the runs,
        against the rung below it (or the whole, where something was left out of it), and with `activity` beside: what
        there was in training for each technique to act on.
    """
    rows = by_row(records)
    start = list(rows.pop(START).values())
    table = {}
    for name, runs in rows.items():
        accuracies = [at_budget(record["points"])["accuracy"] for record in runs.values()]
        table[name] = {**describe(list(runs.values()), accuracies), **_activity(list(runs.values()))}
    at_end = {
        name: {run: record["points"][-1]["accuracy"] for run, record in runs.items()} for name, runs in rows.items()
    }
    for name, difference in differences(at_end, compared_with(list(rows))).items():
        table[name]["difference"] = difference
    return {"equal_tokens": token_budget(records), **describe_start(start), "rows": table}


def _activity(runs: Sequence[Record]) -> dict[str, float | None]:
    """Means over runs of what training had for the techniques to act on."""
    return {
        "truncated_in_training": _logged(runs, "completions/clipped_ratio"),
        "punishment": _logged(runs, PUNISHMENT),
        "entropy_in_training": _logged(runs, "entropy"),
        "length_spread": float(np.mean([record["length_spread"] for record in runs])),
        "dead_groups": float(np.mean([_dead(record["points"][-1]) for record in runs])),
    }


def _logged(runs: Sequence[Record], name: str) -> float | None:
    values = [record["logged"][name] for record in runs if name in record["logged"]]
    return float(np.mean(values)) if values else None


def _dead(point: Mapping[str, float]) -> float:
    """Share of the generated groups whose rewards are all equal."""
    return 1 - point["informative_groups"] / point["generated_groups"]
