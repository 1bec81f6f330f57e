"""The picture of the algorithms: held-out accuracy against generated tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from dapo_ext.reporting.plots import picture_style


# Okabe and Ito's palette, which readers with colour-vision deficiencies can tell apart; its yellow, hardly seen on
# white, darkened, and dashed since it then nears the orange. Markers differ as well
STYLES = {
    "grpo": ("#000000", "o"),
    "gspo": ("#56B4E9", "v"),
    "rloo": ("#8C6D00", "<"),
    "dapo": ("#E69F00", "s"),
    "pg-grpo": ("#0072B2", "D"),
    "pg-grpo-as-proposed": ("#009E73", "P"),
    "pg-grpo-with-dapo": ("#D55E00", "^"),
    "dpo": ("#999999", "X"),
    "pg-dpo": ("#CC79A7", "*"),
}
DASHED = ("rloo",)


def plot_curves(result: Mapping[str, Any], path: str | Path) -> None:
    """
    Plot the methods beside each other.

    Args:
        result (`Mapping`):
            A result of `python -m benchmarks algorithms`.
        path (`str` or `Path`):
            PNG file to write.
    """
    with picture_style():
        figure = Figure(figsize=(8, 6), layout="constrained")
        axis = figure.subplots()
        for name in result["summary"]["rows"]:
            _plot_row(axis, result, name, STYLES[name])
        axis.axvline(result["summary"]["equal_tokens"] / 1000, color="#999999", linestyle=":", linewidth=1)
        axis.set(xlabel="generated tokens (thousands); dotted: equal tokens", xlim=(0, None))
        axis.set_ylabel("held-out accuracy (mean of runs; bars: 95 % interval)")
        axis.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8)
        figure.savefig(path, dpi=120)


def _plot_row(axis, result: Mapping[str, Any], name: str, style: tuple[str, str]) -> None:
    colour, marker = style
    row = result["summary"]["rows"][name]
    tokens, accuracy = mean_curve([entry["rows"][name]["points"] for entry in result["seeds"] if name in entry["rows"]])
    end, (low, high) = row["accuracy_end"]["mean"], row["accuracy_end"]["interval"]
    label = result["configs"][name]["label"]
    if not row["is_offline"]:
        line = {"linewidth": 1.4, "linestyle": "--" if name in DASHED else "-"}
        axis.plot(tokens / 1000, accuracy, color=colour, marker=marker, markersize=4, label=label, **line)
    axis.errorbar(
        tokens[-1] / 1000,
        end,
        yerr=[[end - low], [high - end]],
        color=colour,
        marker=marker,
        markersize=9 if row["is_offline"] else 4,
        capsize=3,
        linestyle="none",
        label=label if row["is_offline"] else None,
    )


def mean_curve(
    curves: Sequence[Sequence[Mapping[str, float]]], against: str = "tokens"
) -> tuple[np.ndarray, np.ndarray]:
    """Mean tokens (or another axis) and mean accuracy over runs, at the steps that all runs were measured at."""
    steps = set.intersection(*({point["step"] for point in curve} for curve in curves))
    kept = [[point for point in curve if point["step"] in steps] for curve in curves]
    return tuple(
        np.array([[point[axis] for point in curve] for curve in kept]).mean(axis=0) for axis in (against, "accuracy")
    )
