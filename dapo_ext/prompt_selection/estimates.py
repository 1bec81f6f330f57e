"""What is believed of every prompt: prior, evidence and trend put together."""

from typing import Any

import numpy as np

from .beta import informative_probability
from .drift import Drift
from .evidence import NEVER, Evidence
from .pool_prior import PoolPrior


class PassRateEstimates:
    """
    A Beta posterior over the pass rate of every prompt, learned from every scored group.

    For rewards that are not just right or wrong the posterior is over the chance of the group being informative.

    Args:
        size (`int`):
            Prompts in the dataset.
        num_generations (`int`):
            Completions per group, `G`.
        pass_rates (`np.ndarray` of shape `(size,)` or `None`):
            Offline pass rates in [0, 1], NaN where unknown: the starting prior.
        age_discount (`float`), visit_discount (`float`):
            See [`Evidence`].
    """

    def __init__(
        self,
        size: int,
        num_generations: int,
        pass_rates: np.ndarray | None,
        age_discount: float,
        visit_discount: float,
    ):
        self.size = size
        self.num_generations = num_generations
        self.evidence = Evidence(size, age_discount, visit_discount)
        self.drift = Drift()
        self._offline_pass_rates = pass_rates
        self._begin_prior()
        self.generation = 0

    def _begin_prior(self) -> None:
        self.prior = PoolPrior(self.size, self.num_generations, self._offline_pass_rates)
        self.sees_events = False  # whether the Beta is on the group being informative instead of on the pass rate

    def start_generation(self) -> None:
        """The policy has moved: everything known ages by one generation."""
        self.generation += 1
        self.prior.age()
        self.drift.age()

    def posterior(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Parameters of the posterior of some prompts, as far as the policy has moved since they were seen."""
        alpha, beta, reach = self._posterior_when_seen(positions)
        return self.drift.move(alpha, beta, reach)

    def _posterior_when_seen(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        alpha, beta = self.prior.read(positions)
        hits, misses = self.evidence.read(positions, self.generation)
        alpha, beta, seen = alpha + hits, beta + misses, hits + misses
        # A policy that improves makes easy prompts less informative and hard ones more: events have no common trend
        ages = 0 if self.sees_events else self.evidence.ages(positions, self.generation)
        return alpha, beta, self.drift.reach(ages, seen / (alpha + beta))

    def predict(self, positions: np.ndarray) -> np.ndarray:
        """Chance of each prompt's next group to be informative."""
        alpha, beta = self.posterior(positions)
        if self.sees_events:
            return alpha / (alpha + beta)
        return informative_probability(alpha, beta, self.num_generations)

    def seen(self, positions: np.ndarray) -> np.ndarray:
        """Which of some prompts were ever generated from."""
        return self.evidence.seen_at[positions] != NEVER

    @property
    def coverage(self) -> float:
        """Share of the prompts that were ever generated from."""
        return self.evidence.seen / self.size

    def learn(
        self, positions: np.ndarray, right: np.ndarray, informative: np.ndarray, explored: np.ndarray, binary: bool
    ) -> None:
        """
        Take in the groups of a round.

        Args:
            positions (`np.ndarray` of shape `(n,)`):
                Prompts of the groups.
            right (`np.ndarray` of shape `(n,)`, int):
                Right completions of each group; completions that do not count are not right.
            informative (`np.ndarray` of shape `(n,)`, bool):
                Whether the group's rewards differ.
            explored (`np.ndarray` of shape `(n,)`, bool):
                Whether the prompt was drawn without regard to its estimate.
            binary (`bool`):
                Whether every reward was either right or wrong. At the first that was not, the estimates turn from pass
                rates to the chance of being informative, for good.
        """
        if not binary and not self.sees_events:
            self._switch_to_events()
        successes = informative.astype(np.int64) if self.sees_events else right
        trials = 1 if self.sees_events else self.num_generations
        fair = explored | ~self.seen(positions)
        self.prior.observe(positions[fair], successes[fair])
        alpha, beta, reach = self._posterior_when_seen(positions)
        self.drift.learn(*self.drift.move(alpha, beta, reach), reach, successes, trials)
        distinct = np.unique(positions)
        # What is not the prior's share of the moved posterior becomes what is known
        known = [np.maximum(x - y, 0) for x, y in zip(self.posterior(distinct), self.prior.read(distinct), strict=True)]
        self.evidence.replace(distinct, *known)
        self.evidence.add(positions, successes, trials - successes, self.generation)

    def _switch_to_events(self) -> None:
        """What was known as a pass rate becomes the chance of being informative, with one trial per group."""
        everything = np.arange(self.size)
        chance = self.predict(everything)
        groups = (self.evidence.hits + self.evidence.misses) / self.num_generations
        self.evidence.hits = (chance * groups).astype(np.float32)
        self.evidence.misses = ((1 - chance) * groups).astype(np.float32)
        self.prior.switch_to_events()
        self.sees_events = True

    def state_dict(self) -> dict[str, Any]:
        """Everything but the arrays, in plain types."""
        return {
            "size": self.size,
            "sees_events": self.sees_events,
            "generation": self.generation,
            "drift": {"rate": self.drift.rate, "information": self.drift.information},
        }

    def array_state(self) -> dict[str, np.ndarray]:
        """The arrays: two float32 and a counter per prompt, and the prior."""
        return {**self.evidence.array_state(), **self.prior.array_state()}

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """
        Continue from [`state_dict`] and [`array_state`], whatever was learned here before.

        Raises:
            ValueError: when the state is that of another number of prompts.
        """
        if state["size"] != self.size:
            raise ValueError(
                f"The checkpoint holds estimates for {state['size']} prompts, the training dataset has {self.size}. "
                "Resume with the dataset of the run, or start anew with the checkpoint's weights as the model."
            )
        self._begin_prior()
        if state["sees_events"]:
            self.prior.switch_to_events()
            self.sees_events = True
        self.evidence.load_array_state(arrays)
        self.prior.load_array_state(arrays)
        self.generation = state["generation"]
        self.drift.rate, self.drift.information = state["drift"]["rate"], state["drift"]["information"]
