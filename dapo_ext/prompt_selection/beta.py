"""Beta distributions over pass rates: the chance of an informative group, and the distribution of a whole pool."""

import numpy as np


# Bounds of fitted parameters: below, a pool that never succeeds would get a prior that no evidence can move; above,
# one whose prompts are all alike would get a prior that outweighs every group seen.
SMALLEST_PARAMETER, LARGEST_PARAMETER = 0.05, 50.0


def informative_probability(alpha: np.ndarray, beta: np.ndarray, num_generations: int) -> np.ndarray:
    r"""
    Chance that a group holds right and wrong completions when its pass rate is known as a Beta distribution.

    For `p ~ Beta(a, b)` and `G` independent completions with pass rate `p`:

        P(informative) = 1 - E[p^G] - E[(1-p)^G],    E[p^G] = prod_{j=0..G-1} (a + j) / (a + b + j)

    and `E[(1-p)^G]` the same with `a` and `b` exchanged (moments of the Beta distribution).

    Args:
        alpha (`np.ndarray`), beta (`np.ndarray`):
            Parameters `a` and `b`, positive, of the same shape.
        num_generations (`int`):
            Completions per group, `G`.

    Returns:
        `np.ndarray` of the shape of `alpha`, float64, in [0, 1).
    """
    alpha, beta = np.asarray(alpha, dtype=np.float64), np.asarray(beta, dtype=np.float64)
    all_right, all_wrong = np.ones_like(alpha), np.ones_like(beta)
    for j in range(num_generations):
        total = alpha + beta + j
        all_right *= (alpha + j) / total
        all_wrong *= (beta + j) / total
    return np.maximum(1 - all_right - all_wrong, 0)


def informative_at(pass_rate: np.ndarray, num_generations: int) -> np.ndarray:
    """Chance that a group is informative at a known pass rate, `1 - p^G - (1-p)^G`: the score of a Thompson draw."""
    return 1 - pass_rate**num_generations - (1 - pass_rate) ** num_generations


def group_counts(alpha: np.ndarray, beta: np.ndarray, trials: int) -> np.ndarray:
    r"""
    Beta-binomial distribution: how likely a group of `trials` completions has 0, 1, ..., `trials` right ones.

    With `P(0) = prod_j (b + j) / (a + b + j)` and `P(c + 1) / P(c) = (n - c)(a + c) / ((c + 1)(b + n - c - 1))`.

    Args:
        alpha (`np.ndarray` of shape `(K,)`), beta (`np.ndarray` of shape `(K,)`):
            Parameters of `K` Beta distributions.
        trials (`int`):
            Completions per group, `n`.

    Returns:
        `np.ndarray` of shape `(K, n + 1)`; rows sum to 1.
    """
    j = np.arange(trials)
    none_right = ((beta[:, None] + j) / (alpha[:, None] + beta[:, None] + j)).prod(axis=1, keepdims=True)
    ratios = (trials - j) * (alpha[:, None] + j) / ((j + 1) * (beta[:, None] + trials - j - 1))
    return np.concatenate([none_right, none_right * ratios.cumprod(axis=1)], axis=1)


def fit_beta(
    counts: np.ndarray, alpha: np.ndarray, beta: np.ndarray, iterations: int = 50
) -> tuple[np.ndarray, np.ndarray]:
    r"""
    Beta distributions of the pass rates of pools, from how many of `n` completions were right in groups of each.

    Maximises the beta-binomial likelihood `prod_c P(c; n, a, b)^counts[c]` of each row by Minka's fixed point
    ("Estimating a Dirichlet distribution", 2000), of which every step raises the likelihood:

        a <- a * [sum_j T_j / (a + j)] / [sum_j W / (a + b + j)],    T_j = sum_{c > j} counts[c],  W = sum_c counts[c]

    over `j = 0..n-1`, and `b` likewise with right and wrong exchanged. With one trial per group the likelihood knows
    the mean alone, and `a + b` stays what it was at the start.

    Args:
        counts (`np.ndarray` of shape `(K, n + 1)`):
            Weight of the groups with 0, 1, ..., n right completions; every row has a positive sum.
        alpha (`np.ndarray` of shape `(K,)`), beta (`np.ndarray` of shape `(K,)`):
            Where the iteration starts, e.g. at the previous fit.
        iterations (`int`, *optional*, defaults to `50`):
            Number of steps.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: `a` and `b`, within [`SMALLEST_PARAMETER`, `LARGEST_PARAMETER`].
    """
    j = np.arange(counts.shape[1] - 1)
    right = counts[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # (K, n), weight of groups with more than j right
    wrong = counts.cumsum(axis=1)[:, :-1][:, ::-1]  # and with more than j wrong
    weight = counts.sum(axis=1, keepdims=True)
    for _ in range(iterations):
        expected = (weight / ((alpha + beta)[:, None] + j)).sum(axis=1)
        alpha, beta = (
            np.clip(old * (seen / (old[:, None] + j)).sum(axis=1) / expected, SMALLEST_PARAMETER, LARGEST_PARAMETER)
            for old, seen in ((alpha, right), (beta, wrong))
        )
    return alpha, beta
