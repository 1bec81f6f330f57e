"""What the runs of the ablation come to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.ablation.rows import PREDICTIVE, WHOLE, compared_with
from benchmarks.algorithms.summary import accuracies, at_budget, describe, describe_start, token_budget
from benchmarks.harness.method_runs import START
from benchmarks.harness.paired import Record, by_row, differences


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """
    The table.

    Args:
        records (`Sequence[Mapping]`):
            Runs of each row, with the same warm starts and seeds; the row `"start"` has one per warm start.

    Returns:
        `dict`: as [`~benchmarks.algorithms.summary.summarise`], where a row's `difference` is at the end of the runs,
        against the rung below it (or the whole, where something was left out of it), `difference_at_tokens` of the last
        two rungs the same at equal tokens, all of them corrected together. Beside it what there was in training for
        each technique to act on, and which share of the prompts was never, sometimes and always solved at the end,
        where that was recorded.
    """
    rows = by_row(records)
    start = list(rows.pop(START).values())
    at_tokens = accuracies(rows, at_budget)
    table = {}
    for name, runs in rows.items():
        made = list(runs.values())
        table[name] = {**describe(made, list(at_tokens[name].values())), **_activity(made), "solved": _solved(made)}
    at_end = accuracies(rows, lambda points: points[-1])
    against = compared_with(list(rows))
    compared = {("difference", name): (at_end[name], at_end[other]) for name, other in against.items()}
    for name in (WHOLE, PREDICTIVE):
        if name in against:
            compared["difference_at_tokens", name] = (at_tokens[name], at_tokens[against[name]])
    for (what, name), difference in differences(compared).items():
        table[name][what] = {**difference, "against": against[name]}
    return {"equal_tokens": token_budget(records), **describe_start(start), "rows": table}


def _activity(runs: Sequence[Record]) -> dict[str, float | None]:
    """Means over runs of what training had for the techniques to act on."""
    return {
        "truncated_in_training": _logged(runs, "completions/clipped_ratio"),
        "length_spread": float(np.mean([record["length_spread"] for record in runs])),
        "dead_groups": float(np.mean([_dead(record["points"][-1]) for record in runs])),
        "overlong": float(np.mean([record["overlong"] for record in runs])),
        "ended_overlong": float(np.mean([record["ended_overlong"] for record in runs])),
    }


def _solved(runs: Sequence[Record]) -> dict[str, float] | None:
    """Shares of the held-out prompts by how many of their samples are right; `None` where it was not recorded."""
    ends = [record["points"][-1] for record in runs]
    if not all("successes" in point for point in ends):
        return None
    right = np.array([[int(digit) for digit in point["successes"]] for point in ends])  # (runs, prompts)
    samples = np.array([[point["k"]] for point in ends])
    never, always = (right == 0).mean(), (right == samples).mean()
    return {"never": float(never), "sometimes": float(1 - never - always), "always": float(always)}


def _logged(runs: Sequence[Record], name: str) -> float | None:
    values = [record["logged"][name] for record in runs if name in record["logged"]]
    return float(np.mean(values)) if values else None


def _dead(point: Mapping[str, float]) -> float:
    """Share of the generated groups whose rewards are all equal."""
    return 1 - point["informative_groups"] / point["generated_groups"]
