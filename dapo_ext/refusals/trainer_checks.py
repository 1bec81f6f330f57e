"""What can only be refused once the trainer knows its model, reward functions and data."""

from accelerate.logging import get_logger
from datasets import Dataset

from .form import refusal
from .prompt_lengths import check_prompt_lengths


logger = get_logger(__name__)

IMAGE_COLUMNS = ("image", "images")


def check_trainer(trainer) -> None:
    """
    Refuse features of the host that the trainer's configuration cannot honour.

    Args:
        trainer (`DAPOTrainer`):
            After the host's constructor.

    Raises:
        ValueError: naming the argument, its value, the reason and the remedy.
    """
    args = trainer.args
    if args.soft_overlong_tokens and "soft_overlong_punishment_reward" in trainer.reward_func_names:
        raise refusal(
            "reward_funcs",
            trainer.reward_func_names,
            "TRL's soft overlong punishment is among them and would punish twice",
            "remove it, or set soft_overlong_cache=0",
        )
    _check_dataset(trainer)
    if args.dynamic_sampling:
        _check_sampling(trainer)


def _check_dataset(trainer) -> None:
    dataset, groups = trainer.train_dataset, trainer.args.generation_batch_size // trainer.num_generations
    rows = len(dataset) if isinstance(dataset, Dataset) else None
    if rows == 0 or (rows is None and next(iter(dataset), None) is None):
        raise refusal(
            "train_dataset", "0 rows", "there are no prompts in it", "pass a dataset with at least one prompt"
        )
    if rows is not None and rows < groups:
        raise refusal(
            "train_dataset",
            f"{rows} rows",
            f"a generation batch takes {groups} prompts and TRL drops incomplete batches, so that none would be left",
            f"pass at least {groups} rows (datasets.concatenate_datasets repeats them), or lower "
            "per_device_train_batch_size or steps_per_generation",
        )
    check_prompt_lengths(trainer)


def _check_sampling(trainer) -> None:
    remedy = "set dynamic_sampling=False to use it"
    if trainer.rollout_func is not None:
        reason = "a refill calls the generator again, with other prompts than the ones it was built for"
        raise refusal("rollout_func", trainer.rollout_func, reason, remedy)
    if trainer.environment_factories is not None:
        reason = "environments are prepared for one batch and would be reused in a refill"
        raise refusal("environment_factory", trainer.environment_factories, reason, remedy)
    if trainer.tools:
        names = [getattr(tool, "__name__", repr(tool)) for tool in trainer.tools]
        raise refusal("tools", names, "tools are prepared for one batch and would be reused in a refill", remedy)
    reason = "selected groups are replayed as text, without their images"
    if trainer._is_vlm:
        raise refusal("processing_class", type(trainer.processing_class).__name__, reason, remedy)
    columns = trainer.train_dataset.column_names or []
    images = [column for column in IMAGE_COLUMNS if column in columns]
    if images:
        raise refusal("train_dataset", images, reason, remedy)


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
