"""What to expect of a prompt that was not seen, or not lately: empirical Bayes over the groups of its pool."""

import numpy as np

from .beta import fit_beta, group_counts


# Weight that older groups lose with every generation: the policy moves, and with it the pool.
DISCOUNT = 0.98
# Groups that the starting prior counts for, so that a first group does not decide alone.
STARTING_GROUPS = 4.0
# Offline pass rates between 0 and 1 are put into this many strata of equal width; 0, 1 and "unknown" have their own.
INNER_STRATA = 8


def stratify(pass_rates: np.ndarray) -> np.ndarray:
    """
    Sort prompts by their offline pass rate.

    Args:
        pass_rates (`np.ndarray` of shape `(N,)`):
            In [0, 1]; NaN where it is not known.

    Returns:
        `np.ndarray` of shape `(N,)`, int8: 0 for a rate of 0, 1 to 8 for those between, 9 for a rate of 1 and 10 for
        an unknown one.
    """
    inner = 1 + np.minimum(np.nan_to_num(pass_rates) * INNER_STRATA, INNER_STRATA - 1).astype(np.int8)
    strata = np.where(pass_rates == 0, 0, np.where(pass_rates == 1, INNER_STRATA + 1, inner))
    return np.where(np.isnan(pass_rates), INNER_STRATA + 2, strata).astype(np.int8)


class PoolPrior:
    """
    One Beta prior per stratum of the pool, fitted to the groups that were drawn without regard to what was known.

    Those are the first groups of prompts and the groups drawn for exploration: within a stratum, unseen prompts are
    exchangeable and exploration is uniform, so both are fair samples, which the selected groups are not.

    Without offline pass rates the pool is one stratum that starts at `Beta(1, 1)`. With them, a stratum of mean rate
    `r` starts at `Beta(1/2 + G r, 1/2 + G (1 - r))`, as if `r` had been measured on one group.

    Args:
        size (`int`):
            Prompts in the pool.
        num_generations (`int`):
            Completions per group, `G`.
        pass_rates (`np.ndarray` of shape `(size,)`, *optional*):
            Offline pass rates in [0, 1], NaN where unknown.
    """

    def __init__(self, size: int, num_generations: int, pass_rates: np.ndarray | None = None):
        if pass_rates is None:
            self.strata = np.zeros(size, dtype=np.int8)
            self.start = np.ones((2, 1))
        else:
            self.strata = stratify(pass_rates)
            self.start = np.ones((2, INNER_STRATA + 3))
            for stratum in np.unique(self.strata[~np.isnan(pass_rates)]):
                rate = pass_rates[self.strata == stratum].mean()
                self.start[:, stratum] = 0.5 + num_generations * np.array([rate, 1 - rate])
        self._reset(num_generations)

    def _reset(self, trials: int) -> None:
        self.counts = np.zeros((self.start.shape[1], trials + 1))
        self.alpha, self.beta = self.start
        self._start_counts = STARTING_GROUPS * group_counts(self.alpha, self.beta, trials)

    def age(self) -> None:
        """Discount the groups seen so far and fit anew; once per generation."""
        self.counts *= DISCOUNT
        self.alpha, self.beta = fit_beta(self._start_counts + self.counts, self.alpha, self.beta)

    def observe(self, positions: np.ndarray, successes: np.ndarray) -> None:
        """Count groups that were drawn without regard to what was known, by their number of successes."""
        np.add.at(self.counts, (self.strata[positions], successes), 1.0)

    def read(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters of the prior of some prompts."""
        strata = self.strata[positions]
        return self.alpha[strata], self.beta[strata]

    def switch_to_events(self) -> None:
        """Turn from pass rates to the chance of being informative, one trial per group, with a strength of 1."""
        informative = self.counts[:, 1:-1].sum(axis=1)
        dead = self.counts[:, 0] + self.counts[:, -1]
        start = self._start_counts / STARTING_GROUPS
        share = start[:, 1:-1].sum(axis=1)
        self.start = np.stack([share, 1 - share])
        self._reset(trials=1)
        self.counts = np.stack([dead, informative], axis=1)

    def array_state(self) -> dict[str, np.ndarray]:
        """The state as arrays; strata and start follow from the dataset."""
        return {"prior_counts": self.counts, "prior_alpha": self.alpha, "prior_beta": self.beta}

    def load_array_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from [`array_state`]."""
        self.counts, self.alpha, self.beta = (
            arrays[name].copy() for name in ("prior_counts", "prior_alpha", "prior_beta")
        )
