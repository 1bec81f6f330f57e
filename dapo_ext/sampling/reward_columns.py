"""Which reward functions decide whether a group is informative, and what follows from how they score."""

from accelerate.logging import get_logger

from ..refusals import refusal


logger = get_logger(__name__)


def find_deciding_columns(trainer, filter_rewards: list[str] | None, task_columns: list[int]) -> list[int]:
    """
    Positions of the reward functions that decide whether a group is informative.

    Raises:
        ValueError: for a name that no reward function or more than one has, or when no deciding function has weight.
    """
    names = [trainer.reward_func_names[column] for column in task_columns]
    if filter_rewards is None:
        columns = task_columns
    else:
        for name in filter_rewards:
            if names.count(name) != 1:
                found = "no reward function has" if name not in names else "more than one reward function has"
                raise refusal("filter_rewards", filter_rewards, f"{found} the name {name!r}", f"choose from {names}")
        columns = [names.index(name) for name in filter_rewards]
    if not trainer.reward_weights[columns].any():
        raise refusal(
            "reward_weights",
            trainer.args.reward_weights,
            "every deciding reward function has weight 0, so no group could be informative",
            "give at least one of them a weight",
        )
    return columns


def find_comparing_rewards(trainer) -> list[int]:
    """Positions of the reward functions that set the completions of a group against one another, and say so."""
    return [i for i, func in enumerate(trainer.reward_funcs) if getattr(func, "compares_within_group", False)]


def warn_of_comparisons(trainer, deciding_columns: list[int], comparing_columns: list[int]) -> None:
    """Say, where it is so, that a reward function which compares leaves dynamic sampling next to nothing to filter."""
    names = [trainer.reward_func_names[column] for column in deciding_columns if column in comparing_columns]
    if names:
        logger.warning(
            f"{', '.join(names)} compares the completions of a group with one another and decides which groups are "
            "informative: unless a whole group ties, its rewards differ, so that nearly every group is informative and "
            "dynamic sampling filters next to nothing. Name another reward function in filter_rewards, or set "
            "dynamic_sampling=False."
        )
