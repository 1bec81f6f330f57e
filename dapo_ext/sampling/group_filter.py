"""Which groups carry a gradient: equal rewards mean zero advantages, so only groups whose rewards differ are kept."""

from enum import IntEnum

import torch


class Verdict(IntEnum):
    """What a group's rewards say about it."""

    INFORMATIVE = 0  # max - min > tolerance
    EQUAL = 1  # at least two scored, live completions, all with the same reward
    UNSCORED = 2  # fewer than two scored, live completions


def deciding_rewards(rewards_per_func: torch.Tensor, weights: torch.Tensor, columns: list[int]) -> torch.Tensor:
    """
    Weighted sum of the deciding reward functions, `R_i = sum_k w_k R_ik`, a missing reward counting as absent.

    The sum is formed as TRL forms it with `multi_objective_aggregation="sum_then_normalize"` (NaN terms are left out; a
    row in which every deciding function is NaN has no reward), but in float64, so that the tolerance of the filter is
    not spent on rounding. It decides with `"normalize_then_sum"` as well, where functions whose weighted rewards cancel
    in every row of a group would still give advantages.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(R, F)`):
            Rewards of `R` completions from `F` reward functions, NaN where a function gave none.
        weights (`torch.Tensor` of shape `(F,)`):
            TRL's reward weights.
        columns (`list[int]`):
            Positions of the reward functions that decide.

    Returns:
        `torch.Tensor` of shape `(R,)`, float64, NaN for unscored completions.
    """
    chosen = rewards_per_func[:, columns].double()
    total = (chosen * weights[columns].to(chosen)).nansum(dim=1)
    return total.masked_fill(chosen.isnan().all(dim=1), torch.nan)


def judge_groups(rewards: torch.Tensor, num_generations: int, tolerance: float) -> torch.Tensor:
    """
    Judge each group by `max_i R_i - min_i R_i` over its scored, live completions.

    For 0/1 rewards this is DAPO's condition `0 < #correct < G` (equation 11).

    Max minus min is compared with a tolerance because a floating-point standard deviation of equal rewards is not 0:
    eight rewards of 0.1 have one of about 1e-8.

    Args:
        rewards (`torch.Tensor` of shape `(N * G,)`):
            Deciding reward of each completion, groups contiguous; NaN for a completion that is unscored or not live.
        num_generations (`int`):
            Completions per group, `G`.
        tolerance (`float`):
            Largest spread, in reward units, that still counts as equal.

    Returns:
        `torch.Tensor` of shape `(N,)` with [`Verdict`] values.
    """
    grouped = rewards.view(-1, num_generations)
    scored = ~grouped.isnan()
    spread = grouped.masked_fill(~scored, -torch.inf).amax(1) - grouped.masked_fill(~scored, torch.inf).amin(1)
    verdicts = torch.where(spread > tolerance, int(Verdict.INFORMATIVE), int(Verdict.EQUAL))
    return verdicts.masked_fill(scored.sum(1) < 2, int(Verdict.UNSCORED))
