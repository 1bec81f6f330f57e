"""What pass@k comes to, against the warm start and against GRPO."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.algorithms.rows import BASELINE
from benchmarks.harness.method_runs import START
from benchmarks.harness.paired import Record, Run, by_row, differences, of_their_start
from benchmarks.harness.results import interval


# Of neighbouring k the differences are nearly the same: more tests would cost the correction, and tell nothing new
TESTED = ("1", "8", "64")
# What is asked of the policies: every held-out prompt, or the long sums alone
QUESTIONS = {"pass_at": "", "pass_at_long": "_long"}


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """
    The table.

    Args:
        records (`Sequence[Mapping]`):
            Runs of each row, and of the row `"start"`, which has one per warm start.

    Returns:
        `dict`: `rows`, by row mean `tokens` and `entropy`; `pass_at`, for each k (as text) the mean over runs with a
        95 % bootstrap interval, and for trained rows `over_start` and, but for GRPO itself, `over_grpo`: paired
        differences by k, corrected by Holm for all rows and the k in `TESTED` of the same comparison, with no `p_holm`
        at the other k. Where they were recorded, the same of the long sums alone under names that end in `_long`.
    """
    rows = by_row(records)
    sizes = list(next(iter(rows[START].values()))["points"][-1]["pass_at"])
    table: dict[str, dict[str, Any]] = {
        name: {
            "tokens": float(np.mean([record["points"][-1]["tokens"] for record in runs.values()])),
            "entropy": float(np.mean([record["entropy"] for record in runs.values()])),
        }
        for name, runs in rows.items()
    }
    for question, ending in QUESTIONS.items():
        if all(record["points"][-1].get(question) for runs in rows.values() for record in runs.values()):
            for name, found in _answers(rows, question, sizes).items():
                table[name] |= {f"{what}{ending}": figures for what, figures in found.items()}
    return {"sizes_of_k": sizes, "rows": table}


def _answers(rows: Mapping[str, Mapping[Run, Record]], question: str, sizes: Sequence[str]) -> dict[str, dict]:
    """By row, pass@k and its differences by k."""
    values = {
        (name, k): {run: record["points"][-1][question][k] for run, record in runs.items()}
        for name, runs in rows.items()
        for k in sizes
    }
    trained = [name for name in rows if name != START]
    for k in sizes:  # a warm start is compared with every run that began there
        values["start_of_run", k] = of_their_start(values[START, k], values[trained[0], k])
    over_start = _differences(values, [(name, k) for name in trained for k in sizes], "start_of_run")
    over_grpo = _differences(values, [(name, k) for name in trained if name != BASELINE for k in sizes], BASELINE)
    return {
        name: {
            "pass_at": {k: interval(list(values[name, k].values())) for k in sizes},
            **({"over_start": {k: over_start[name, k] for k in sizes}} if name != START else {}),
            **({"over_grpo": {k: over_grpo[name, k] for k in sizes}} if (name, sizes[0]) in over_grpo else {}),
        }
        for name in rows
    }


def _differences(values, compared: Sequence[tuple[str, str]], other: str) -> dict[tuple[str, str], dict[str, Any]]:
    pairs = {(name, k): (values[name, k], values[other, k]) for name, k in compared}
    tested = differences({(name, k): pair for (name, k), pair in pairs.items() if k in TESTED})
    shown = differences({(name, k): pair for (name, k), pair in pairs.items() if k not in TESTED})
    return tested | {each: {**difference, "p_holm": None} for each, difference in shown.items()}
