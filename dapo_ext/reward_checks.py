"""What happens to rewards between the reward functions and everything that is computed from them."""

from collections.abc import Sequence

import torch


def refuse_infinite(rewards_per_func: torch.Tensor, names: Sequence[str]) -> None:
    """
    Refuse infinite rewards, whose group mean would turn the advantages into NaN.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(R, F)`):
            Rewards of all ranks, so that every rank refuses together.
        names (`Sequence[str]`):
            TRL's names of the reward functions.

    Raises:
        ValueError: naming the function.
    """
    for name, column in zip(names, rewards_per_func.unbind(dim=1), strict=True):
        if column.isinf().any():
            raise ValueError(
                f"The reward function '{name}' returned an infinite reward, which has no group mean. Return a finite "
                "number, or None for a completion that cannot be scored."
            )


def withdraw_punishment(rewards_per_func: torch.Tensor, column: int, everywhere: bool) -> None:
    """
    Set the overlong punishment to NaN where it does not belong: the length alone must not revive a completion that no
    other function has scored, and evaluation is never punished.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(R, F)`):
            Rewards; changed in place.
        column (`int`):
            Position of the punishment among the reward functions.
        everywhere (`bool`):
            Withdraw it from every row.
    """
    others = [i for i in range(rewards_per_func.size(1)) if i != column]
    unscored = rewards_per_func[:, others].isnan().all(dim=1)
    rewards_per_func[unscored | everywhere, column] = torch.nan
