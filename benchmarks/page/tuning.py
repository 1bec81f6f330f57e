"""The page's account of how settings were chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.page.markdown import table


INTRO = (
    "Settings were chosen by one trial each, as many for every row: accuracy {where} on the tuning split, whose "
    "prompts are not among the held-out ones, with a seed that is not reported. Columns are learning rates."
)


def tuning(rows: Mapping[str, Any], labels: Mapping[str, str], where: str = "at the end") -> str:
    """
    What was tried and what was chosen.

    Args:
        rows (`Mapping`):
            By row, `tried`, pairs of settings and accuracy, and the settings `chosen`.
        labels (`Mapping[str, str]`):
            What each row is called.
        where (`str`, *optional*, defaults to `"at the end"`):
            Where trials were measured.
    """
    if not rows:
        return "Nothing was tuned."
    rates = sorted({settings["learning_rate"] for row in rows.values() for settings, _ in row["tried"]})
    lines = [line for name, row in rows.items() for line in _lines(labels[name], row, rates)]
    text = INTRO.format(where=where) + "\n\n" + table(["method", *map("{:g}".format, rates)], lines)
    at_edge = [
        labels[name]
        for name, row in rows.items()
        if len(rates) > 1 and row["chosen"]["learning_rate"] in (rates[0], rates[-1])
    ]
    if at_edge:
        text += "\n\nThe learning rate chosen lies at the edge of what was tried for: " + "; ".join(at_edge) + "."
    knobs = [f"{labels[name]} ({_text(row['chosen'])})" for name, row in rows.items() if _knob_is_at_edge(row)]
    if knobs:
        text += "\n\nThe hyper-parameter of its own lies at the edge of what was tried for: " + "; ".join(knobs) + "."
    return text


def _knob_is_at_edge(row: Mapping[str, Any]) -> bool:
    """Whether the smallest or largest value was chosen, of several."""
    values = sorted({_knob(settings) for settings, _ in row["tried"]})
    return len(values) > 1 and _knob(row["chosen"]) in (values[0], values[-1])


def _knob(settings: Mapping[str, float]) -> tuple[float, ...]:
    """Values of the row's own hyper-parameter."""
    return tuple(value for name, value in settings.items() if name != "learning_rate")


def _text(settings: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in settings.items() if name != "learning_rate")


def _lines(label: str, row: Mapping[str, Any], rates: Sequence[float]) -> list[list[str]]:
    """One line for each value of the row's own hyper-parameter."""
    cells: dict[str, dict[float, str]] = {}
    for settings, accuracy in row["tried"]:
        knob = _text(settings)
        text = f"**{accuracy:.3f}**" if settings == row["chosen"] else f"{accuracy:.3f}"
        cells.setdefault(knob, {})[settings["learning_rate"]] = text
    return [
        [f"{label}, {knob}" if knob else label, *(by_rate.get(rate, "-") for rate in rates)]
        for knob, by_rate in cells.items()
    ]
