"""What happens to rewards between the reward functions and everything that is computed from them."""

from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch


LARGEST_REWARD = torch.finfo(torch.float32).max  # TRL keeps rewards in float32


def read_rewards(returned: Any, name: str, count: int) -> list[float | None]:
    """
    What a reward function returned, as plain numbers.

    Args:
        returned (`Any`):
            A list, tuple, array or tensor with one number for each completion; `None` and NaN stand for "no reward".
        name (`str`):
            TRL's name of the function.
        count (`int`):
            Completions it was given.

    Returns:
        `list[float | None]` of length `count`.

    Raises:
        ValueError: naming function, value and remedy, if it returned anything else.
    """
    if isinstance(returned, torch.Tensor | np.ndarray):
        returned = returned.tolist()
    if isinstance(returned, str | bytes | dict) or not isinstance(returned, Iterable):
        raise ValueError(
            f"The reward function '{name}' returned {_shown(returned)} instead of rewards. Return a list with one "
            f"number for each of the {count} completions, None for one that cannot be scored."
        )
    rewards = [_read_reward(reward, name, row) for row, reward in enumerate(returned)]
    if len(rewards) != count:
        raise ValueError(
            f"The reward function '{name}' returned {len(rewards)} rewards for {count} completions. Return exactly one "
            "for each, None for one that cannot be scored."
        )
    return rewards


def _read_reward(reward: Any, name: str, row: int) -> float | None:
    if isinstance(reward, torch.Tensor | np.ndarray | np.generic) and reward.ndim == 0:
        reward = reward.item()
    if reward is not None and not isinstance(reward, Real):
        raise ValueError(
            f"The reward function '{name}' returned {_shown(reward)} as the reward of completion {row}, which is no "
            "number. Return a number, or None for a completion that cannot be scored."
        )
    if reward is not None and abs(reward) > LARGEST_REWARD:  # type: ignore[operator]
        raise ValueError(
            f"The reward function '{name}' returned {_shown(reward)} as the reward of completion {row}, which is "
            "infinite in float32 and has no group mean. Return a finite number, or None for a completion that cannot "
            "be scored."
        )
    return None if reward is None else float(reward)


def _shown(value: Any) -> str:
    """Type and the beginning of a value: it may hold a whole prompt."""
    shown = repr(value)
    return f"{shown if len(shown) <= 40 else shown[:40] + '...'} ({type(value).__name__})"


def describe_uneven_columns(columns: Mapping[str, Sequence[Any]], count: int) -> str | None:
    """
    What is wrong with the columns that reward functions pushed with `log_extra`, if anything is.

    Args:
        columns (`Mapping[str, Sequence]`):
            Values by column.
        count (`int`):
            Completions, for each of which there must be one.
    """
    for column, values in columns.items():
        if len(values) != count:
            return (
                f"A reward function pushed {len(values)} values to the column {column!r} with `log_extra`, but the "
                f"batch has {count} rows. Push exactly one value per completion."
            )
    return None


def refuse_infinite(rewards_per_func: torch.Tensor, names: Sequence[str]) -> None:
    """
    Refuse infinite rewards of reward models, whose group mean would turn the advantages into NaN.

    Args:
        rewards_per_func (`torch.Tensor` of shape `(R, F)`):
            Rewards of all ranks, so that every rank refuses together.
        names (`Sequence[str]`):
            TRL's names of the reward functions.

    Raises:
        ValueError: naming the model.
    """
    for name, column in zip(names, rewards_per_func.unbind(dim=1), strict=True):
        if column.isinf().any():
            raise ValueError(
                f"The reward model '{name}' returned an infinite reward, which has no group mean. Check its weights "
                "and its dtype: float16 overflows at 65504."
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
