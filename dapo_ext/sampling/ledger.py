"""What dynamic sampling has seen so far: running range of the reward, totals, dead groups by cause."""

from dataclasses import asdict, dataclass, field

import torch

from .diagnosis import DeadGroups
from .group_filter import Verdict


@dataclass
class RewardRange:
    """
    Smallest and largest deciding reward of the run, to tell an all-wrong group from an all-correct one.

    Until two different rewards have been seen, 0 and less counts as wrong, 1 and more as correct, anything between as
    neither.
    """

    low: float | None = None
    high: float | None = None

    def update(self, rewards: torch.Tensor) -> None:
        """Widen the range by the rewards of a round; NaN is left out."""
        scored = rewards[~rewards.isnan()]
        if scored.numel():
            low, high = scored.min().item(), scored.max().item()
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)

    def bounds(self, tolerance: float) -> tuple[float, float]:
        """Values at or below the first are wrong, at or above the second correct."""
        if self.low is None or self.high is None or self.high - self.low <= tolerance:
            return 0.0, 1.0
        return self.low + tolerance, self.high - tolerance

    def pass_bounds(self, tolerance: float) -> tuple[float, float]:
        """[`bounds`] for pass rates: as long as a value between 0 and 1 is the only one, it counts as wrong."""
        wrong, correct = self.bounds(tolerance)
        if self.low is not None and self.high is not None and self.high - self.low <= tolerance and self.high < correct:
            wrong = max(wrong, self.high)
        return wrong, correct


def count_dead(
    rewards: torch.Tensor, verdicts: torch.Tensor, num_generations: int, bounds: tuple[float, float]
) -> DeadGroups:
    """
    Sort the dead groups of a round by cause.

    Args:
        rewards (`torch.Tensor` of shape `(N * G,)`):
            Deciding rewards, NaN for completions that do not count.
        verdicts (`torch.Tensor` of shape `(N,)`):
            From [`judge_groups`].
        num_generations (`int`):
            Completions per group, `G`.
        bounds (`tuple[float, float]`):
            From [`RewardRange.bounds`].

    Returns:
        [`DeadGroups`]
    """
    value = rewards.view(-1, num_generations)[verdicts == Verdict.EQUAL].nanmean(dim=1)
    wrong, correct = int((value <= bounds[0]).sum()), int((value >= bounds[1]).sum())
    return DeadGroups(
        all_wrong=wrong,
        all_correct=correct,
        one_value=value.numel() - wrong - correct,
        unscored=int((verdicts == Verdict.UNSCORED).sum()),
    )


@dataclass
class Ledger:
    """Totals over the run, all of them in the checkpoint."""

    generated_groups: int = 0
    trained_groups: int = 0  # places in the batches handed to the host, dead fillers included
    informative_groups: int = 0  # trained groups that were informative
    generated_tokens: int = 0
    shrunk_in_a_row: int = 0
    reward_range: RewardRange = field(default_factory=RewardRange)

    @property
    def informative_fraction(self) -> float:
        """Share of the trained groups whose rewards differed; 1.0 unless a batch was shrunk."""
        return self.informative_groups / max(self.trained_groups, 1)

    def state_dict(self) -> dict:
        return asdict(self)

    def load_state_dict(self, state: dict) -> None:
        reward_range = RewardRange(**state["reward_range"])
        self.__dict__.update({**state, "reward_range": reward_range})
