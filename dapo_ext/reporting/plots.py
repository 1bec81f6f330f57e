"""The picture of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


# Okabe and Ito's palette, which readers with colour-vision deficiencies can tell apart
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
COLUMNS = 3
FEW = 20  # points

Records = Sequence[Mapping[str, float]]


class Panel(NamedTuple):
    """One axis: its title, and metrics with their labels and colours."""

    title: str
    series: tuple[tuple[str, str | None, str], ...]


ACCEPT_RATE = Panel("Accept rate of generated groups", (("dynamic_sampling/accept_rate", None, BLUE),))
ENTROPY = Panel("Entropy (nats per token)", (("entropy", None, BLUE),))
LENGTH = Panel(
    "Completion length (tokens)",
    (("completions/mean_length", "all", BLUE), ("completions/mean_terminated_length", "ended", GREEN)),
)
CLIPPING = Panel(
    "Share of tokens clipped, of completions cut off",
    (
        ("clip_ratio/high_mean", "clipped above", ORANGE),
        ("clip_ratio/low_mean", "clipped below", BLUE),
        ("completions/clipped_ratio", "cut off", GREY),
    ),
)
TRAINING_PANELS = (
    Panel(
        "Task reward (training prompts)",
        (
            ("dynamic_sampling/reward_all", "everything generated", BLUE),
            ("dynamic_sampling/reward_kept", "kept groups only", ORANGE),
        ),
    ),
    ACCEPT_RATE,
    ENTROPY,
    LENGTH,
    CLIPPING,
)


def plot_training(
    records: Records,
    path: str | Path,
    accuracy: Mapping[int, tuple[float, tuple[float, float]]] | None = None,
) -> None:
    """
    Plot held-out accuracy, reward, accept rate, entropy and length of a run against the optimizer step.

    Args:
        records (`Sequence[Mapping[str, float]]`):
            Logged records, each with its `step`, as [`~dapo_ext.reporting.run_log.read_metrics`] returns them.
        path (`str` or `Path`):
            PNG file to write.
        accuracy (`Mapping[int, tuple[float, tuple[float, float]]]`, *optional*):
            Held-out accuracy and its 95 % interval by step.
    """
    with picture_style():
        figure, axes = _grid(1 + len(TRAINING_PANELS))
        _plot_accuracy(axes[0], accuracy or {})
        for axis, panel in zip(axes[1:], TRAINING_PANELS, strict=True):
            _plot_panel(axis, panel, records)
        figure.savefig(path, dpi=120)


def plot_panels(records: Records, panels: Sequence[Panel], path: str | Path) -> None:
    """
    Plot metrics of a run against the optimizer step, leaving out the panels nothing was logged for.

    Args:
        records (`Sequence[Mapping[str, float]]`):
            Logged records, each with its `step`.
        panels (`Sequence[Panel]`):
            What to plot, in order.
        path (`str` or `Path`):
            PNG file to write.

    Raises:
        ValueError: when nothing was logged for any of the panels.
    """
    logged = {name for record in records for name in record}
    filled = [panel for panel in panels if any(name in logged for name, _, _ in panel.series)]
    if not filled:
        raise ValueError(f"none of the {len(records)} logged records has a metric to plot.")
    with picture_style():
        figure, axes = _grid(len(filled))
        for axis, panel in zip(axes, filled, strict=False):
            _plot_panel(axis, panel, records)
        for axis in axes[len(filled) :]:
            axis.set_axis_off()
        figure.savefig(path, dpi=120)


def picture_style():
    """What the pictures of runs and of benchmarks have in common, to be drawn `with`."""
    return matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9})


def _grid(panels: int) -> tuple[Figure, list]:
    rows = -(-panels // COLUMNS)
    figure = Figure(figsize=(4 * COLUMNS, 3 * rows), layout="constrained")
    return figure, list(figure.subplots(rows, COLUMNS).flatten())


def _plot_panel(axis, panel: Panel, records: Records) -> None:
    values = []
    for name, label, colour in panel.series:
        points = [(record["step"], record[name]) for record in records if record.get(name) is not None]
        if points:
            marker = "." if len(points) < FEW else None  # a line through one point is invisible
            axis.plot(*zip(*points, strict=True), color=colour, label=label, linewidth=1.2, marker=marker)
            values += [value for _, value in points]
    axis.set(title=panel.title, xlabel="optimizer step")
    axis.set_xlim(0, 1.02 * max((record["step"] for record in records), default=1))  # the same in all panels
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not values or min(values) >= 0:
        axis.set_ylim(0, None)
    if len(panel.series) > 1 and values:
        axis.legend(frameon=False)


def _plot_accuracy(axis, accuracy: Mapping[int, tuple[float, tuple[float, float]]]) -> None:
    steps = sorted(accuracy)
    values = [accuracy[step][0] for step in steps]
    below = [accuracy[step][0] - accuracy[step][1][0] for step in steps]
    above = [accuracy[step][1][1] - accuracy[step][0] for step in steps]
    axis.errorbar(steps, values, yerr=[below, above], color=BLUE, marker="o", markersize=4, capsize=3, linewidth=1.2)
    axis.set(title="Held-out accuracy (95 % interval)", xlabel="optimizer step", ylim=(0, None))
