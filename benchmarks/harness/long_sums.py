"""pass@k of the longest sums alone, which are those a policy may not be able to solve at all."""

import math

import numpy as np
from datasets import Dataset

from dapo_ext.evaluation.estimators import pass_at


SHARE = 0.7  # of the most terms a sum may have: 7 to 10 of 10


def shortest_long_sum(max_terms: int) -> int:
    """Terms from which on a sum counts as long."""
    return math.ceil(SHARE * max_terms)


def pass_at_of_long_sums(prompts: Dataset, rewards: np.ndarray, max_terms: int, sizes: list[int]) -> dict[str, float]:
    """
    pass@k of the long sums among the prompts.

    Args:
        prompts (`Dataset`):
            With a column `prompt`: digits with operators between them and `"="` at the end.
        rewards (`numpy.ndarray` of shape `(num_prompts, k)`):
            One row per prompt.
        max_terms (`int`):
            Most terms a sum of this world may have.
        sizes (`list[int]`):
            The k wanted.

    Returns:
        `dict[str, float]`: by k as text; empty where no sum is long.
    """
    terms = np.array([len(prompt) // 2 for prompt in prompts["prompt"]])
    successes = (rewards >= 0.5).sum(axis=1)[terms >= shortest_long_sum(max_terms)]
    if not len(successes):
        return {}
    return {str(size): float(pass_at(successes, rewards.shape[1], size).mean()) for size in sizes}
