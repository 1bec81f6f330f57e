"""What pass@k comes to, against the warm start and against GRPO."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.algorithm_rows import BASELINE
from benchmarks.method_runs import START
from benchmarks.paired import Record, Run, by_row, differences, of_their_start
from benchmarks.results import interval


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """
    The table.

    Args:
        records (`Sequence[Mapping]`):
            Runs of each row, and of the row `"start"`, which has one per warm start.

    Returns:
        `dict`: `rows`, by row `pass_at`, for each k (as text) the mean over runs with a 95 % bootstrap interval, and
        for trained rows `over_start` and, but for GRPO itself, `over_grpo`: paired differences by k, corrected by Holm
        for all rows and k of the same comparison.
    """
    rows = by_row(records)
    sizes = list(next(iter(rows[START].values()))["points"][-1]["pass_at"])
    values = {(name, k): _figures(runs, k) for name, runs in rows.items() for k in sizes}
    trained = [name for name in rows if name != START]
    for k in sizes:  # a warm start is compared with every run that began there
        values["start_of_run", k] = of_their_start(values[START, k], values[trained[0], k])
    over_start = _differences(values, [(name, k) for name in trained for k in sizes], "start_of_run")
    over_grpo = _differences(values, [(name, k) for name in trained if name != BASELINE for k in sizes], BASELINE)
    return {
        "sizes_of_k": sizes,
        "rows": {
            name: {
                "pass_at": {k: interval(list(values[name, k].values())) for k in sizes},
                **({"over_start": {k: over_start[name, k] for k in sizes}} if name != START else {}),
                **({"over_grpo": {k: over_grpo[name, k] for k in sizes}} if (name, sizes[0]) in over_grpo else {}),
            }
            for name in rows
        },
    }


def _figures(runs: Mapping[Run, Record], k: str) -> dict[Run, float]:
    return {run: record["points"][-1]["pass_at"][k] for run, record in runs.items()}


def _differences(values, compared: Sequence[tuple[str, str]], other: str) -> dict[tuple[str, str], dict[str, Any]]:
    return differences(values, {(name, k): (other, k) for name, k in compared})
