"""What can only be refused once the trainer knows its model, reward functions and data."""

from datasets import Dataset

from .form import refusal
from .prompt_lengths import check_prompt_lengths


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
