"""The picture of the ratio family: what a clip of the preference ratio allows the plain ratio to be."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from dapo_ext.reporting.plots import BLUE, GREEN, ORANGE, picture_style
from pg_grpo.ratio import plain_log_ratio_bounds


EPSILON = 0.2
LENGTHS = ((10, BLUE), (100, ORANGE), (1000, GREEN))


def plot_ratio_family(path: str | Path) -> None:
    """
    Plot the clip bounds of the plain ratio pi/pi_old against pg_beta, and against the length exponent alpha.

    Args:
        path (`str` or `Path`):
            PNG file to write.
    """
    with picture_style():
        figure = Figure(figsize=(11, 4), layout="constrained")
        left, right = figure.subplots(1, 2)

        beta = torch.logspace(-1.3, 0.3, 200, dtype=torch.float64)
        low, high = (bound.exp() for bound in plain_log_ratio_bounds(EPSILON, EPSILON, beta))
        left.fill_between(beta, low, high, color=BLUE, alpha=0.15, label="the gradient flows")
        left.plot(beta, low, color=BLUE)
        left.plot(beta, high, color=BLUE)
        for value, name in ((0.1, "PG-GRPO\n(default)"), (1.0, "plain ratio")):
            left.axvline(value, color="black", linewidth=0.8, linestyle=":")
            left.text(value * 1.05, 0.004, name, fontsize=8)
        left.set(
            xscale="log",
            yscale="log",
            ylim=(3e-3, 3e2),
            xlabel="pg_beta (alpha = 0)",
            ylabel="plain ratio pi / pi_old of a completion",
            title=f"A clip of {EPSILON} on p = (pi / pi_old)^pg_beta",
        )
        left.legend(frameon=False, loc="upper right")

        alpha = np.linspace(0, 1, 100)
        for length, colour in LENGTHS:
            exponents = 0.1 * torch.tensor(float(length)).pow(-torch.tensor(alpha))
            low, high = plain_log_ratio_bounds(EPSILON, EPSILON, exponents)
            right.plot(alpha, high, color=colour, label=f"{length:,} tokens")
            right.plot(alpha, low, color=colour)
        right.axhline(0, color="black", linewidth=0.8)
        right.set(
            yscale="symlog",
            xlabel="length exponent alpha (pg_beta = 0.1)",
            ylabel="bounds of log(pi / pi_old), nats",
            title="Longer completions get more room as alpha grows",
        )
        right.legend(frameon=False, loc="upper left")
        figure.savefig(path, dpi=120)
