"""Tests of paired differences, and the correction where a table makes several."""

import math
from collections.abc import Sequence

import mpmath
import numpy as np


def paired_p_value(differences: Sequence[float]) -> float | None:
    r"""
    Two-sided p-value of the paired t-test: could differences like these have a mean of 0?

    `t = mean / (std / sqrt(n))` with n - 1 degrees of freedom.

    Args:
        differences (`Sequence[float]`):
            One per pair.

    Returns:
        `float` or `None`: `None` where it cannot be formed: fewer than two differences, or all of them equal.
    """
    n = len(differences)
    deviation = np.std(differences, ddof=1) if n > 1 else 0.0
    if deviation == 0:
        return None
    t = float(np.mean(differences) / (deviation / math.sqrt(n)))
    return both_tails(t, n - 1)


def both_tails(t: float, freedom: int) -> float:
    r"""
    Probability that a variable of Student's distribution lies further from 0 than `t`.

    `I_{v / (v + t^2)}(v / 2, 1 / 2)` with the regularised incomplete beta function and v degrees of freedom.
    """
    return float(mpmath.betainc(freedom / 2, 0.5, 0, freedom / (freedom + t**2), regularized=True))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    r"""
    Holm's step-down correction: p-values that hold for all comparisons of a table at once.

    With the m p-values in rising order, `p_(i)` becomes `max_{j <= i} min(1, (m - j + 1) p_(j))`.

    Args:
        p_values (`Sequence[float | None]`):
            One per comparison; `None` for one that could not be tested, which still counts among the m.

    Returns:
        `list[float | None]`: in the same order.
    """
    corrected: list[float | None] = [None] * len(p_values)
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        corrected[i] = largest
    return corrected
