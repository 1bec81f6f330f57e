"""The picture of the pipeline: held-out accuracy by optimizer update."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.algorithms.plot import mean_curve
from benchmarks.pipeline.summary import LONG, RL, SCRATCH, WITH_REWARD_MODEL
from dapo_ext.reporting.plots import picture_style


# Okabe and Ito's palette, which readers with colour-vision deficiencies can tell apart; markers differ as well
STYLES = {RL: ("#0072B2", "D"), SCRATCH: ("#E69F00", "s"), LONG: ("#D55E00", "^"), WITH_REWARD_MODEL: ("#009E73", "P")}


def plot_pipeline(result: Mapping[str, Any], labels: Mapping[str, str], path: str | Path) -> None:
    """
    Plot accuracy against optimizer updates.

    Args:
        result (`Mapping`):
            A result of `python -m benchmarks pipeline`.
        labels (`Mapping[str, str]`):
            What each row is called.
        path (`str` or `Path`):
            PNG file to write.
    """
    summary = result["summary"]
    with picture_style():
        figure = Figure(figsize=(9, 4.4), layout="constrained")
        axis = figure.subplots()
        for name, row in summary["rows"].items():
            colour, marker = STYLES[name]
            curves = [entry["rows"][name]["points"] for entry in result["seeds"] if name in entry["rows"]]
            steps, accuracy = mean_curve(curves, "step")
            axis.plot(steps, accuracy, color=colour, marker=marker, markersize=4, linewidth=1.4, label=labels[name])
            end, (low, high) = row["accuracy_end"]["mean"], row["accuracy_end"]["interval"]
            axis.errorbar(steps[-1], end, yerr=[[end - low], [high - end]], color=colour, capsize=3)
        axis.axhline(summary["start"]["mean"], color="#999999", linestyle=":", label="warm start alone")
        axis.set(xlabel="optimizer update", ylabel="held-out accuracy (mean; bars: 95 % interval)", ylim=(0, None))
        axis.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
        figure.savefig(path, dpi=120)
