"""The configuration that a trainer needs: checked where one is given, TRL's defaults where none is."""

from typing import Any, TypeVar

from transformers import TrainingArguments
from trl.trainer.utils import get_config_model_id

from .form import refusal


Config = TypeVar("Config", bound=TrainingArguments)


def own_config(trainer: Any, declared_by: type, args: Any, config: type[Config], model: Any) -> Config:
    """
    `args`, or a configuration with the defaults and an output directory named as TRL names it.

    Args:
        trainer (`Trainer`), declared_by (`type`):
            Who asks: the trainer, and the class of the project whose constructor it is in. One derived from it may read
            further fields.
        args ([`~transformers.TrainingArguments`] or `None`):
            What the trainer was given.
        config (`type`):
            The configuration class whose fields it reads.
        model (`str` or [`~transformers.PreTrainedModel`]):
            The model, which the output directory is named after.

    Raises:
        Refusal: when `args` lacks fields, as TRL's own configuration does, or is another trainer's (`made_for`).
    """
    if args is None:
        name = model if isinstance(model, str) else get_config_model_id(model.config)
        return config(f"{name.split('/')[-1]}-{trainer._name}")
    reason = None
    if not isinstance(args, config):
        reason = f"fields that {config.__name__} adds are missing from it"
    elif type(trainer) is declared_by and args.made_for != config.made_for:
        reason = f"{declared_by.__name__} would not read the fields that it has for {args.made_for}"
    if reason is not None:
        public_name = f"{config.__module__.split('.')[0]}.{config.__name__}"
        raise refusal("args", type(args).__name__, reason, f"pass a {public_name}, or use the trainer made for it")
    return args
