"""The configuration that a trainer needs: checked where one is given, TRL's defaults where none is."""

from typing import Any, TypeVar

from transformers import TrainingArguments
from trl.trainer.utils import get_config_model_id

from .form import refusal


Config = TypeVar("Config", bound=TrainingArguments)


def own_config(args: TrainingArguments | None, config: type[Config], model: Any, method: str) -> Config:
    """
    `args`, or a configuration with the defaults and an output directory named as TRL names it.

    Args:
        args ([`~transformers.TrainingArguments`] or `None`):
            What the trainer was given.
        config (`type`):
            The configuration class whose fields it reads.
        model (`str` or [`~transformers.PreTrainedModel`]):
            The model, which the output directory is named after.
        method (`str`):
            What the output directory's name ends in.

    Raises:
        Refusal: when `args` is of another class, as TRL's own configuration is, and lacks fields.
    """
    if args is None:
        name = model if isinstance(model, str) else get_config_model_id(model.config)
        return config(f"{name.split('/')[-1]}-{method}")
    if not isinstance(args, config):
        public_name = f"{config.__module__.split('.')[0]}.{config.__name__}"
        reason = f"fields that {config.__name__} adds are missing from it"
        raise refusal("args", type(args).__name__, reason, f"pass a {public_name}")
    return args
