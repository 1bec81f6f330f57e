"""The picture of the ablation: the ladder here beside the published one, and what leaving a technique out costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from benchmarks.ablation.rows import LADDER, LEFT_OUT, METHODS, PUBLISHED, REPRODUCED, WHOLE
from dapo_ext.reporting.plots import BLUE, GREY, ORANGE, picture_style


def plot_ladder(result: Mapping[str, Any], labels: Mapping[str, str], path: str | Path) -> None:
    """
    Plot accuracy by row, with the published ladder on an axis of its own beside it.

    Args:
        result (`Mapping`):
            A result of `python -m benchmarks ablation`.
        labels (`Mapping[str, str]`):
            What each row is called.
        path (`str` or `Path`):
            PNG file to write.
    """
    rows = result["summary"]["rows"]
    # A row of its own for each rung in both panels, so that they line up
    ladder = [name for name in LADDER if name in rows or name in PUBLISHED]
    left_out = [name for name in rows if name.startswith(LEFT_OUT)]
    with picture_style():
        figure = Figure(figsize=(13, 4.4), layout="constrained")
        here, published, without = figure.subplots(1, 3, width_ratios=(1, 0.8, 0.9))
        _bars(here, rows, ladder, labels)
        here.set(title="The ladder on the playground", xlabel="held-out accuracy (95 % interval)")
        place_of = dict(zip(ladder, range(len(ladder))[::-1], strict=True))
        for figures, style, label in (
            (PUBLISHED, {"color": GREY, "marker": "o"}, "the paper"),
            (REPRODUCED, {"color": ORANGE, "marker": "s", "linestyle": "--"}, "independent"),
        ):
            published.plot(list(figures.values()), [place_of[name] for name in figures], label=label, **style)
        published.sharey(here)
        published.tick_params(labelleft=False)
        published.grid(axis="both", color="#DDDDDD")
        published.set(title="Published, 32B parameters", xlabel="AIME 2024 avg@32")
        published.legend(frameon=False, loc="lower left")
        short = {name: labels[name].removeprefix("DAPO ").replace(" (", "\n(") for name in left_out}
        _bars(without, rows, [name for name in (WHOLE, *left_out) if name in rows], {**short, WHOLE: "DAPO"})
        without.set(title="One technique left out", xlabel="held-out accuracy (95 % interval)")
        bounds = [bound for row in rows.values() for bound in row["accuracy_end"]["interval"]]
        margin = 0.05 * (max(bounds) - min(bounds)) + 0.002
        for axis in (here, without):
            axis.set_xlim(min(bounds) - margin, max(bounds) + margin)
            axis.xaxis.set_major_locator(MaxNLocator(5))
        figure.savefig(path, dpi=120)


def _bars(axis, rows: Mapping[str, Any], names: list[str], labels: Mapping[str, str]) -> None:
    places = range(len(names))[::-1]
    measured = [(place, rows[name]["accuracy_end"]) for place, name in zip(places, names, strict=True) if name in rows]
    means = [accuracy["mean"] for _, accuracy in measured]
    errors = [
        [accuracy["mean"] - accuracy["interval"][0] for _, accuracy in measured],
        [accuracy["interval"][1] - accuracy["mean"] for _, accuracy in measured],
    ]
    heights = [place for place, _ in measured]
    axis.errorbar(means, heights, xerr=errors, color=BLUE, marker="o", capsize=3, linestyle="none")
    axis.set(yticks=list(places), ylim=(-0.5, len(names) - 0.5))
    axis.set_yticklabels([labels.get(name, METHODS[name].label) for name in names])
    axis.grid(axis="both", color="#DDDDDD")
