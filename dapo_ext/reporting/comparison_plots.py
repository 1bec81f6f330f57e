"""Pictures that put runs side by side: held-out accuracies with their intervals, and a metric of each run."""

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes

from ..evaluation import Evaluation
from .plots import BLUE, GREEN, ORANGE


# The rest of Okabe and Ito's palette; line styles differ as well
COLOURS = ("#000000", BLUE, ORANGE, GREEN, "#CC79A7", "#56B4E9", "#E69F00")
LINE_STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))


def plot_accuracies(
    axis: Axes, results: Mapping[str, Evaluation], start: Evaluation | None = None, title: str = "Held-out accuracy"
) -> None:
    """
    Plot avg@k of several runs with its 95 % interval, the first on top.

    Args:
        axis (`matplotlib.axes.Axes`):
            Where to draw.
        results (`Mapping[str, Evaluation]`):
            What [`~dapo_ext.evaluate`] returned, by the name of the run. A run has its colour by its place, the same as
            in [`plot_metric`].
        start (`Evaluation`, *optional*):
            The policy that all of them started from.
        title (`str`, *optional*, defaults to `"Held-out accuracy"`):
            Title of the panel.
    """
    if start is not None:
        axis.axvspan(*start.avg_at_k_interval, color="#DDDDDD")
        axis.axvline(start.avg_at_k, color="#666666", linestyle=":", label="start")
        axis.legend(frameon=False, fontsize="small")
    for row, (result, colour) in enumerate(zip(results.values(), cycle(COLOURS), strict=False)):
        low, high = result.avg_at_k_interval
        axis.plot([low, high], [row, row], color=colour, linewidth=1.6)
        axis.plot(result.avg_at_k, row, color=colour, marker="o", markersize=6)
        axis.annotate(f"{result.avg_at_k:.2f}", (high, row), (5, 0), textcoords="offset points", va="center")
    axis.set_yticks(range(len(results)), list(results))
    axis.invert_yaxis()
    axis.margins(x=0.15, y=0.1)
    axis.set(title=title, xlabel="avg@k, with its 95 % interval over prompts")


def plot_metric(
    axis: Axes, runs: Mapping[str, Sequence[Mapping[str, float]]], metric: str, title: str, ylabel: str = ""
) -> None:
    """
    Plot one logged metric of several runs against the optimizer step. A run that never logged it is left out.

    Args:
        axis (`matplotlib.axes.Axes`):
            Where to draw.
        runs (`Mapping[str, Sequence[Mapping[str, float]]]`):
            Logged records by the name of the run: `trainer.state.log_history`, or what
            [`~dapo_ext.reporting.run_log.read_metrics`] returns. A run has colour and line style by its place, whether
            or not the runs before it are drawn.
        metric (`str`):
            Name of the metric.
        title (`str`):
            Title of the panel.
        ylabel (`str`, *optional*):
            Unit of the metric.
    """
    for (name, records), colour, style in zip(runs.items(), cycle(COLOURS), cycle(LINE_STYLES), strict=False):
        points = [(record["step"], record[metric]) for record in records if record.get(metric) is not None]
        if points:
            axis.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.4, label=name)
    axis.set(title=title, xlabel="optimizer step", ylabel=ylabel)
    axis.legend(frameon=False, fontsize="small")
