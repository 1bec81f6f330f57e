"""Tables and figures as Markdown text."""

from collections.abc import Mapping, Sequence
from typing import Any


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (header, rule, *rows))


def with_interval(value: Mapping[str, Any], sign: str = "") -> str:
    """
    What [`~benchmarks.results.interval`] gives, as text: the figure alone where it is of a single value.

    `sign="+"` writes the sign of positive figures too.
    """
    statistic = value["mean"] if "mean" in value else value["median"]
    if value["values"] == 1:
        return f"{statistic:{sign}.3f}"
    low, high = value["interval"]
    return f"{statistic:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"
