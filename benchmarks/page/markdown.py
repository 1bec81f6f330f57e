"""Tables and figures as Markdown text."""

from collections.abc import Mapping, Sequence
from typing import Any


LEVEL = 0.05


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def with_interval(value: Mapping[str, Any], sign: str = "") -> str:
    """
    What [`~benchmarks.harness.results.interval`] gives, as text: the figure alone where it is of one or two values.

    `sign="+"` writes the sign of positive figures too.
    """
    statistic = value["mean"] if "mean" in value else value["median"]
    if value["values"] <= 2:
        return f"{statistic:{sign}.3f}"
    low, high = value["interval"]
    return f"{statistic:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def share(value: float | None) -> str:
    """A share in percent; `None` is one that does not exist, such as what is clipped by a run that made no update."""
    return "-" if value is None else f"{value:.2%}"


def p_value(p: float | None) -> str:
    """A p-value as text; `None` is one that could not be formed."""
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def verdict(rows: Mapping[str, Any], labels: Mapping[str, str], baseline: str, what: str = "difference") -> str:
    """
    Which rows differ from the baseline once the number of comparisons is counted, losses as plainly as wins.

    Args:
        rows (`Mapping`):
            By name; those that are compared have one of [`~benchmarks.harness.paired.differences`] under `what`.
        labels (`Mapping[str, str]`):
            What each row is called.
        baseline (`str`):
            What they are compared with, and where, such as `"GRPO at equal tokens"`.
        what (`str`, *optional*, defaults to `"difference"`):
            Which of their differences.
    """
    compared = {name: row[what] for name, row in rows.items() if what in row}

    def names(chosen: Sequence[str]) -> str:
        return "; ".join(f"{labels[name]} ({compared[name]['mean']:+.3f})" for name in chosen) or "none"

    told_apart = [name for name, d in compared.items() if d["p_holm"] is not None and d["p_holm"] < LEVEL]
    return "\n".join(
        [
            f"Against {baseline}, by corrected p-values (level {LEVEL}):",
            "",
            f"- better: {names([name for name in told_apart if compared[name]['mean'] > 0])}",
            f"- worse: {names([name for name in told_apart if compared[name]['mean'] < 0])}",
            f"- not told apart from it: {names([name for name in compared if name not in told_apart])}",
        ]
    )
