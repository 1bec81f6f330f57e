"""The picture of filling a batch: what it costs along a run, and what it brings, on each pool."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.algorithms.plot import mean_curve
from dapo_ext.reporting.plots import picture_style


# Okabe and Ito's palette, which readers with colour-vision deficiencies can tell apart; markers differ as well
STYLES = {
    "plain": ("#56B4E9", "v"),
    "grpo": ("#000000", "o"),
    "uniform": ("#E69F00", "s"),
    "predictive": ("#0072B2", "D"),
    "predictive_tokens": ("#009E73", "P"),
    "whole_batch": ("#CC79A7", "^"),
}


def plot_rollouts(result: Mapping[str, Any], labels: Mapping[str, str], path: str | Path) -> None:
    """
    Plot, for each pool, groups generated per informative group against steps, and held-out accuracy against steps and
    against generated tokens.

    Args:
        result (`Mapping`):
            A result of `python -m benchmarks rollouts`.
        labels (`Mapping[str, str]`):
            What each policy is called.
        path (`str` or `Path`):
            PNG file to write.
    """
    pools = list(result["summary"])
    with picture_style():
        figure = Figure(figsize=(12, 3.6 * len(pools) + 0.6), layout="constrained")
        grid = figure.subplots(len(pools), 3, squeeze=False)
        for axes, pool in zip(grid, pools, strict=True):
            for policy, (colour, marker) in STYLES.items():
                runs = [
                    record["points"]
                    for record in result["seeds"]
                    if (record["spec"]["pool"], record["spec"]["row"]) == (pool, policy)
                ]
                style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4}
                axes[0].plot(*_cost(runs), **style)
                axes[1].plot(*mean_curve(runs, "step"), **style)
                tokens, accuracy = mean_curve(runs)
                axes[2].plot(tokens / 1000, accuracy, label=labels[policy], **style)
            axes[0].set(
                title=f"Pool {pool}: what a batch costs",
                xlabel="optimizer step",
                ylabel="groups generated per informative\ngroup trained on",
                ylim=(0.9, None),
            )
            axes[0].axhline(1.0, color="#999999", linestyle=":", linewidth=1)
            axes[1].set(title="Held-out accuracy by step", xlabel="optimizer step", ylabel="accuracy (mean of runs)")
            axes[2].set(title="Held-out accuracy by tokens", xlabel="generated tokens (thousands)", xlim=(0, None))
        figure.legend(*grid[0][2].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=3)
        figure.savefig(path, dpi=120)


def _cost(runs: Sequence[Sequence[Mapping[str, float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Between one point of the curves and the next: generated groups over informative groups trained on."""
    steps = np.array([point["step"] for point in runs[0]])
    generated, trained = (
        np.array([[point[name] for point in run] for run in runs]).sum(axis=0)
        for name in ("generated_groups", "trained_informative")
    )
    return steps[1:], np.diff(generated) / np.diff(trained)
