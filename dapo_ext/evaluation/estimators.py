"""pass@k and the intervals of an evaluation, from what was rewarded."""

import math

import numpy as np


BOOTSTRAP_SAMPLES = 2000
INTERVAL_PERCENTILES = (2.5, 97.5)


def pass_at(successes: np.ndarray, k: int, size: int) -> np.ndarray:
    r"""
    Unbiased estimate of the probability that at least one of `size` completions succeeds, for each prompt.

    `1 - C(k - c, size) / C(k, size)`: one minus the share of the subsets of `size` out of the k completions that hold
    no success.

    Args:
        successes (`numpy.ndarray` of shape `(num_prompts,)`):
            Number c of successes among the k completions of each prompt.
        k (`int`):
            Number of completions per prompt.
        size (`int`):
            Number of completions of the estimate, 1 to k.

    Returns:
        `numpy.ndarray` of shape `(num_prompts,)`:
            The estimates, 0 to 1.
    """
    table = np.array([1 - math.comb(k - c, size) / math.comb(k, size) for c in range(k + 1)])
    return table[successes]


def bootstrap_intervals(figures: np.ndarray, seed: int = 0) -> list[tuple[float, float]]:
    r"""
    95 % percentile bootstrap intervals of the column means, resampling rows.

    Args:
        figures (`numpy.ndarray` of shape `(num_prompts, num_figures)`):
            Figures of each prompt.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.

    Returns:
        `list[tuple[float, float]]`:
            `(low, high)` of each column.
    """
    num_prompts = len(figures)
    # How often each prompt is drawn says all of a resample: (samples, prompts) counts instead of a 3-d gather.
    counts = np.random.default_rng(seed).multinomial(
        num_prompts, np.full(num_prompts, 1 / num_prompts), size=BOOTSTRAP_SAMPLES
    )
    low, high = np.percentile(counts @ figures / num_prompts, INTERVAL_PERCENTILES, axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
