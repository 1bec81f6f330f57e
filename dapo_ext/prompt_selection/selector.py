"""Prompts chosen by a running estimate of their pass rate, for groups that will hold right and wrong completions."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from .beta import informative_at
from .estimates import PassRateEstimates
from .exploration import ExplorationPass
from .lengths import CompletionLengths


SELECTION_KEY = 0x5E1E  # sets these random numbers apart from others drawn with the same seed


@dataclass(frozen=True)
class SelectionSettings:
    """The constants of selection; `benchmarks/selection_simulation.py` is where they were chosen."""

    explore_every: int = 20  # every so many draws one asks no estimate
    candidates_per_group: int = 16  # candidates, drawn uniformly, for each group of a batch
    sharpness: float = 4.0  # pass rates are drawn from Beta(k a, k b): k = 1 is plain Thompson sampling
    age_discount: float = 0.999  # weight a prompt's evidence keeps with every generation
    visit_discount: float = 0.85  # weight it keeps when a newer group arrives
    token_share: float = 0.0  # share of a group's cost that grows with its tokens; 0: every group costs the same


@dataclass(frozen=True)
class Draw:
    """Prompts of one round, in the order they were chosen."""

    positions: np.ndarray  # (n,), int64, in the dataset
    predicted: np.ndarray  # (n,), chance of each to be informative
    explored: np.ndarray  # (n,), bool: drawn without regard to the estimate


class PromptSelector:
    """
    Chooses prompts whose groups will probably be informative, and learns from every group that was scored.

    A draw takes a uniform sample of candidates, draws a pass rate for each from its posterior `Beta(a, b)` made sharper
    (Thompson sampling from `Beta(4 a, 4 b)`), scores it with `(1 - p^G - (1-p)^G) / cost` and takes the best. The cost
    is 1 for every group, or grows with the prompt's usual completion length, see
    [`~dapo_ext.prompt_selection.lengths.CompletionLengths`]. (The expected variance `p (1 - p)` would rank prompts of
    one cost the same: both fall with the distance of `p` from one half.) Every 20th draw
    instead takes the next prompt of a pass over the whole dataset, whatever is known of it: exactly 5 % of all draws
    are exploration, and in `20 * size` draws every prompt has its turn.

    What is drawn depends on the seed, the number of draws so far and what was observed, and on nothing else.

    Args:
        size (`int`):
            Prompts in the dataset.
        num_generations (`int`):
            Completions per group, `G`.
        batch_groups (`int`):
            Groups of a batch; sets the number of candidates.
        seed (`int`):
            Seed of the run.
        pass_rates (`np.ndarray` of shape `(size,)`, *optional*):
            Offline pass rates in [0, 1], NaN where unknown: the starting prior.
        settings ([`SelectionSettings`], *optional*):
            The constants.
    """

    def __init__(
        self,
        size: int,
        num_generations: int,
        batch_groups: int,
        seed: int,
        pass_rates: np.ndarray | None = None,
        settings: SelectionSettings | None = None,
    ):
        self.size = size
        self.num_generations = num_generations
        self.settings = settings or SelectionSettings()
        self.seed = seed
        self.estimates = PassRateEstimates(
            size, num_generations, pass_rates, self.settings.age_discount, self.settings.visit_discount
        )
        self.lengths = CompletionLengths(size, self.settings.token_share)
        self.exploration = ExplorationPass(size, seed)
        self.draws = 0  # calls of `draw`
        self.drawn = 0  # prompts drawn
        self._num_candidates = min(size, self.settings.candidates_per_group * batch_groups)
        self._candidates = np.empty(0, dtype=np.int64)

    def start_generation(self) -> None:
        """The policy has moved; once per batch."""
        self.estimates.start_generation()

    def draw(
        self, missing: int, most: int, avoid: Collection[int] = (), multiple: int = 1, margin: float = 0.0
    ) -> Draw:
        """
        Choose the prompts of a round, as many as will probably give the groups that are missing.

        With `q_1, q_2, ...` the predicted chances in the order of choice, the smallest `n` is taken for which
        `sum q - margin * sqrt(sum q (1 - q)) >= missing`.

        Args:
            missing (`int`):
                Informative groups wanted.
            most (`int`):
                Most prompts to draw; a multiple of `multiple`.
            avoid (`Collection[int]`):
                Positions that are not drawn unless nothing else is left.
            multiple (`int`, *optional*, defaults to `1`):
                The number is rounded up to a multiple of this.
            margin (`float`, *optional*, defaults to `0.0`):
                Standard deviations of the number of informative groups to add for safety.

        Returns:
            [`Draw`]
        """
        explored = (self.drawn + 1 + np.arange(most)) % self.settings.explore_every == 0
        exploring, ends = self.exploration.upcoming(int(explored.sum()), avoid)
        ranked = self._rank(np.array([*avoid, *exploring], dtype=np.int64))
        positions = np.empty(most, dtype=np.int64)
        positions[explored] = exploring
        positions[~explored] = np.resize(ranked, int((~explored).sum()))

        predicted = self.estimates.predict(positions)
        expected, variance = predicted.cumsum(), (predicted * (1 - predicted)).cumsum()
        enough = expected - margin * np.sqrt(variance) >= missing
        count = int(enough.argmax()) + 1 if enough.any() else most
        count = min(-(-count // multiple) * multiple, most)
        self.draws += 1
        self.drawn += count
        if explored[:count].any():
            self.exploration.taken = ends[int(explored[:count].sum()) - 1]
        return Draw(positions[:count], predicted[:count], explored[:count])

    def _rank(self, avoid: np.ndarray) -> np.ndarray:
        """Fresh candidates, the most promising first, those to be avoided last; ties fall at random."""
        rng = np.random.default_rng([self.seed, SELECTION_KEY, self.draws])
        candidates = rng.choice(self.size, self._num_candidates, replace=False)
        alpha, beta = self.estimates.posterior(candidates)
        chance = rng.beta(self.settings.sharpness * alpha, self.settings.sharpness * beta)
        score = chance if self.estimates.sees_events else informative_at(chance, self.num_generations)
        score = score / self.lengths.relative_cost(candidates)
        score -= (1 + score.max()) * np.isin(candidates, avoid)  # below all others, which are at least 0
        self._candidates = candidates
        return candidates[np.argsort(-score, kind="stable")]

    def observe(
        self, draw: Draw, right: np.ndarray, informative: np.ndarray, binary: bool, lengths: np.ndarray
    ) -> None:
        """
        Learn from the groups of a round.

        Args:
            draw ([`Draw`]):
                The round.
            right (`np.ndarray` of shape `(n,)`), informative (`np.ndarray` of shape `(n,)`), binary (`bool`):
                See [`PassRateEstimates.learn`].
            lengths (`np.ndarray` of shape `(n,)`):
                Mean completion length of each group, in tokens.
        """
        self.estimates.learn(draw.positions, right, informative, draw.explored, binary)
        self.lengths.learn(draw.positions, lengths)

    def pool_metrics(self) -> dict[str, float]:
        """
        State of the pool: exact where every prompt was a candidate of the last draw, else estimated from those that
        were, which are a uniform sample.
        """
        sample = self._candidates
        alpha, beta = self.estimates.posterior(sample)
        promising = self.estimates.predict(sample) > 0.5
        metrics = {
            "exploration_share": self.drawn // self.settings.explore_every / max(self.drawn, 1),
            "effective_pool": promising.mean() * self.size,
            "coverage": self.estimates.coverage,
        }
        if not self.estimates.sees_events:  # an uninformative group of no pass rate may be either
            dead = ~promising & self.estimates.seen(sample)
            metrics["solved"] = (dead & (alpha > beta)).mean() * self.size
            metrics["hopeless"] = (dead & (alpha <= beta)).mean() * self.size
        return {name: float(value) for name, value in metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """Everything but the arrays, in plain types."""
        return {
            "draws": self.draws,
            "drawn": self.drawn,
            "explored_up_to": self.exploration.taken,
            "estimates": self.estimates.state_dict(),
        }

    def array_state(self) -> dict[str, np.ndarray]:
        """The arrays of the estimates, and the lengths."""
        return {**self.estimates.array_state(), "mean_lengths": self.lengths.mean_lengths}

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """
        Continue from [`state_dict`] and [`array_state`].

        Raises:
            ValueError: when the state is that of another number of prompts.
        """
        self.estimates.load_state_dict(state["estimates"], arrays)
        self.lengths.mean_lengths = arrays["mean_lengths"].copy()
        self.draws, self.drawn = state["draws"], state["drawn"]
        self.exploration.taken = state["explored_up_to"]
