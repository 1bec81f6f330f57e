"""Rows of a table against its baseline, paired by warm start and seed."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.harness.results import interval
from benchmarks.page.comparisons import holm, paired_p_value


Run = tuple[int, int]  # warm start, seed
Record = Mapping[str, Any]


def by_row(records: Sequence[Record]) -> dict[str, dict[Run, Record]]:
    """Records by row and run, both in the order they come in."""
    rows: dict[str, dict[Run, Record]] = defaultdict(dict)
    for record in records:
        rows[record["spec"]["row"]][record["spec"]["start"], record["spec"]["seed"]] = record
    return dict(rows)


def differences(values: Mapping[str, Mapping[Run, float]], against: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """
    Paired differences of a table.

    Args:
        values (`Mapping[str, Mapping]`):
            A figure of each row, by run.
        against (`Mapping[str, str]`):
            For each row that is compared, the row it is compared with. A comparison's pairs are the runs that both
            rows have.

    Returns:
        `dict[str, dict]`: by row, mean with a 95 % bootstrap interval (of this difference alone), `p` of the paired
        t-test, and `p_holm` after Holm's correction for all differences given here.
    """
    compared = {}
    for row, other in against.items():
        paired = [value - values[other][run] for run, value in values[row].items() if run in values[other]]
        compared[row] = {**interval(paired), "against": other, "p": paired_p_value(paired)}
    for difference, p_value in zip(compared.values(), holm([d["p"] for d in compared.values()]), strict=True):
        difference["p_holm"] = p_value
    return compared


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
