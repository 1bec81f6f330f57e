"""The playground's reward, with a count of what was generated."""

import math

import numpy as np

from dapo_ext.playground import correctness_reward


class CountedReward:
    """The playground's reward, counting what is generated on the way: tokens, groups, informative groups."""

    __name__ = "correctness_reward"

    def __init__(self, num_generations: int):
        self.num_generations = num_generations
        self.tokens = self.squared_lengths = self.groups = self.informative = 0

    def __call__(self, completions, completion_ids, answer, **kwargs) -> list[float]:
        rewards = correctness_reward(completions=completions, completion_ids=completion_ids, answer=answer)
        groups = np.reshape(rewards, (-1, self.num_generations))
        self.tokens += sum(len(ids) for ids in completion_ids)
        self.squared_lengths += sum(len(ids) ** 2 for ids in completion_ids)
        self.groups += len(groups)
        self.informative += int((groups.min(axis=1) < groups.max(axis=1)).sum())
        return rewards

    def length_spread(self) -> float:
        """Standard deviation of the lengths of what was generated, over their mean."""
        completions = self.groups * self.num_generations
        mean = self.tokens / completions
        return math.sqrt(max(self.squared_lengths / completions - mean**2, 0.0)) / mean
