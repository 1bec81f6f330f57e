"""Rows of a table against its baseline, paired by warm start and seed."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from benchmarks.harness.comparisons import holm, paired_p_value
from benchmarks.harness.results import interval


Run = tuple[int, int]  # warm start, seed
Record = Mapping[str, Any]
Figures = Mapping[Run, float]
Key = TypeVar("Key", bound=Hashable)


def by_row(records: Sequence[Record]) -> dict[str, dict[Run, Record]]:
    """Records by row and run, both in the order they come in."""
    rows: dict[str, dict[Run, Record]] = defaultdict(dict)
    for record in records:
        rows[record["spec"]["row"]][record["spec"]["start"], record["spec"]["seed"]] = record
    return dict(rows)


def differences(compared: Mapping[Key, tuple[Figures, Figures]]) -> dict[Key, dict[str, Any]]:
    """
    Paired differences of a table.

    Args:
        compared (`Mapping[Hashable, tuple]`):
            Under a name of its own every comparison that the table makes: a figure of one row and the same of another,
            by run. Pairs are the runs that both have.

    Returns:
        `dict[Hashable, dict]`: of each the mean with a 95 % bootstrap interval (of this difference alone), `p` of the
        paired t-test, and `p_holm` after Holm's correction for all of them.
    """
    paired = {
        key: [value - other[run] for run, value in own.items() if run in other]
        for key, (own, other) in compared.items()
    }
    tests = [paired_p_value(values) for values in paired.values()]
    return {
        key: {**interval(values), "p": p, "p_holm": p_holm}
        for (key, values), p, p_holm in zip(paired.items(), tests, holm(tests), strict=True)
    }


def of_their_start(values: Mapping[Run, float], runs: Iterable[Run]) -> dict[Run, float]:
    """For each run the figure of the warm start it began from, which has one run of its own."""
    of_start = {start: value for (start, _), value in values.items()}
    return {run: of_start[run[0]] for run in runs}


def by_seed(records: Sequence[Record]) -> list[dict[str, Any]]:
    """One entry per warm start and seed, each with its runs by row."""
    entries: dict[Run, dict[str, Any]] = {}
    for record in records:
        spec = record["spec"]
        run = (spec["start"], spec["seed"])
        entry = entries.setdefault(run, {"start": spec["start"], "seed": spec["seed"], "rows": {}})
        entry["rows"][spec["row"]] = {name: value for name, value in record.items() if name != "spec"}
    return list(entries.values())
