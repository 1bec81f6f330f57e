"""How many completions of a group were right, for rewards that say right or wrong."""

import torch


def count_right(rewards: torch.Tensor, num_generations: int, bounds: tuple[float, float]) -> tuple[torch.Tensor, bool]:
    """
    Count the right completions of each group, and say whether the rewards know only right and wrong.

    Args:
        rewards (`torch.Tensor` of shape `(R * G,)`):
            Deciding rewards, NaN for completions that do not count; those are not right.
        num_generations (`int`):
            Completions per group, `G`.
        bounds (`tuple[float, float]`):
            A reward at or below the first is wrong, at or above the second right, see [`RewardRange.pass_bounds`].

    Returns:
        `tuple[torch.Tensor, bool]`: right completions of each group, shape `(R,)`, and whether no reward lies between
        the bounds.
    """
    right = rewards >= bounds[1]
    between = (rewards > bounds[0]) & ~right
    return right.view(-1, num_generations).sum(dim=1), not between.any().item()
