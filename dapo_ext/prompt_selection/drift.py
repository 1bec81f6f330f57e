"""The pool's common trend: how far the policy moves all pass rates with each generation."""

import numpy as np


# Weight that older groups lose with every generation.
DISCOUNT = 0.9
# Information that speaks for no drift at all, so that a few groups do not decide (completions, squared generations).
STARTING_INFORMATION = 100.0
LARGEST_RATE = 0.5  # log-odds per generation
LARGEST_SHIFT = 3.0  # log-odds
LONGEST_REACH = 20  # generations; farther than this no trend is trusted, or an error in the rate would grow with time


class Drift:
    """
    A rate `d` at which log-odds of pass rates change per generation, the same for all prompts.

    A posterior `Beta(a, b)` of which a share `s` rests on groups seen `t` generations ago moves its mean from `m` to
    the one with log-odds `log(m / (1 - m)) + d min(t, 20) s`, and keeps its strength `a + b`. The rate follows from
    what new groups show beyond what was expected: a discounted Newton step on the beta-binomial log-likelihood.

    Attributes:
        rate (`float`):
            `d`, in log-odds per generation.
        information (`float`):
            Discounted Fisher information on the rate.
    """

    def __init__(self):
        self.rate = 0.0
        self.information = STARTING_INFORMATION

    def age(self) -> None:
        """Discount what is known of the rate; once per generation."""
        self.information = DISCOUNT * self.information + (1 - DISCOUNT) * STARTING_INFORMATION

    @staticmethod
    def reach(generations: np.ndarray | int, share: np.ndarray) -> np.ndarray:
        """`min(t, 20) s`: generations since a prompt was seen, times the share of its posterior that rests on it."""
        return np.minimum(generations, LONGEST_REACH) * share

    def move(self, alpha: np.ndarray, beta: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Posteriors as they are by now.

        Args:
            alpha (`np.ndarray`), beta (`np.ndarray`):
                Posteriors as they were when their prompts were last seen.
            reach (`np.ndarray`):
                Of each, see [`reach`].

        Returns:
            `tuple[np.ndarray, np.ndarray]`: the moved parameters, of the same sum.
        """
        odds = alpha / beta * np.exp(np.clip(self.rate * reach, -LARGEST_SHIFT, LARGEST_SHIFT))
        total = alpha + beta
        return total * odds / (1 + odds), total / (1 + odds)

    def learn(self, alpha: np.ndarray, beta: np.ndarray, reach: np.ndarray, successes: np.ndarray, trials: int) -> None:
        """
        Take in new groups.

        With mean `m = a / (a + b)` and reach `r` the score of the rate is `r (c - n m) / v` and its information
        `r^2 n m (1 - m) / v`, where `v = 1 + (n - 1) / (a + b + 1)` is what the beta-binomial varies more than a
        binomial does.

        Args:
            alpha (`np.ndarray`), beta (`np.ndarray`):
                The moved posteriors before the groups were seen.
            reach (`np.ndarray`):
                As in [`move`].
            successes (`np.ndarray`):
                Successes `c` of each group.
            trials (`int`):
                Completions per group, `n`.
        """
        mean = alpha / (alpha + beta)
        excess = 1 + (trials - 1) / (alpha + beta + 1)
        self.information += float((reach**2 * trials * mean * (1 - mean) / excess).sum())
        step = float((reach * (successes - trials * mean) / excess).sum()) / self.information
        self.rate = float(np.clip(self.rate + step, -LARGEST_RATE, LARGEST_RATE))
