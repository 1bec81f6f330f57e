"""The picture of a training run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure


# Okabe and Ito's palette, which readers with colour-vision deficiencies can tell apart
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"


def plot_training(
    records: Sequence[Mapping[str, float]],
    path: str | Path,
    accuracy: Mapping[int, tuple[float, tuple[float, float]]] | None = None,
) -> None:
    """
    Plot held-out accuracy, reward, accept rate, entropy and length of a run against the optimizer step.

    Args:
        records (`Sequence[Mapping[str, float]]`):
            Logged records, each with its `step`, as [`~dapo_ext.run_log.read_metrics`] returns them.
        path (`str` or `Path`):
            PNG file to write.
        accuracy (`Mapping[int, tuple[float, tuple[float, float]]]`, *optional*):
            Held-out accuracy and its 95 % interval by step.
    """
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure = Figure(figsize=(12, 6), layout="constrained")
        axes = figure.subplots(2, 3).flatten()
        _plot_accuracy(axes[0], accuracy or {})
        panels: list[tuple[str, list[tuple[str, str | None, str]]]] = [
            (
                "Task reward (training prompts)",
                [
                    ("dynamic_sampling/reward_all", "everything generated", BLUE),
                    ("dynamic_sampling/reward_kept", "kept groups only", ORANGE),
                ],
            ),
            ("Accept rate of generated groups", [("dynamic_sampling/accept_rate", None, BLUE)]),
            ("Entropy (nats per token)", [("entropy", None, BLUE)]),
            (
                "Completion length (tokens)",
                [("completions/mean_length", "all", BLUE), ("completions/mean_terminated_length", "ended", GREEN)],
            ),
            (
                "Share of tokens clipped, of completions cut off",
                [
                    ("clip_ratio/high_mean", "clipped above", ORANGE),
                    ("clip_ratio/low_mean", "clipped below", BLUE),
                    ("completions/clipped_ratio", "cut off", GREY),
                ],
            ),
        ]
        for axis, (title, series) in zip(axes[1:], panels, strict=True):
            for name, label, colour in series:
                points = [(record["step"], record[name]) for record in records if record.get(name) is not None]
                if points:
                    axis.plot(*zip(*points, strict=True), color=colour, label=label, linewidth=1.2)
            axis.set(title=title, xlabel="optimizer step", ylim=(0, None))
            if len(series) > 1:
                axis.legend(frameon=False)
        figure.savefig(path, dpi=120)


def _plot_accuracy(axis, accuracy: Mapping[int, tuple[float, tuple[float, float]]]) -> None:
    steps = sorted(accuracy)
    values = [accuracy[step][0] for step in steps]
    below = [accuracy[step][0] - accuracy[step][1][0] for step in steps]
    above = [accuracy[step][1][1] - accuracy[step][0] for step in steps]
    axis.errorbar(steps, values, yerr=[below, above], color=BLUE, marker="o", markersize=4, capsize=3, linewidth=1.2)
    axis.set(title="Held-out accuracy (95 % interval)", xlabel="optimizer step", ylim=(0, None))
