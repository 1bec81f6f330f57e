"""The picture of how the overhead grows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from dapo_ext.reporting.plots import BLUE, picture_style


def plot_growth(growth: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """
    Plot the ratio of step times along each axis.

    Args:
        growth (`Sequence[Mapping]`):
            Places with their `axis`, `value` and ratio `dapo_over_trl`.
        path (`str` or `Path`):
            PNG file to write.
    """
    axes_names = list(dict.fromkeys(place["axis"] for place in growth))
    with picture_style():
        figure = Figure(figsize=(2.7 * len(axes_names) + 1, 3), layout="constrained")
        axes = figure.subplots(1, len(axes_names), sharey=True, squeeze=False)[0]
        for axis, name in zip(axes, axes_names, strict=True):
            places = [place for place in growth if place["axis"] == name]
            values = [place["value"] for place in places]
            medians = [place["dapo_over_trl"]["median"] for place in places]
            low, high = zip(*(place["dapo_over_trl"]["interval"] for place in places), strict=True)
            errors = [
                [median - bound for median, bound in zip(medians, low, strict=True)],
                [bound - median for median, bound in zip(medians, high, strict=True)],
            ]
            axis.errorbar(range(len(values)), medians, yerr=errors, color=BLUE, marker="o", capsize=3, linewidth=1.2)
            axis.axhline(1, color="#999999", linestyle=":", linewidth=1)
            axis.set(xticks=range(len(values)), xlabel=name.replace(", ", ",\n"))
            axis.set_xticklabels([f"{value:,}" for value in values])
        axes[0].set_ylabel("step time over TRL's")
        figure.savefig(path, dpi=120)
