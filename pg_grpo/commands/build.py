"""From the options of a training command to a trainer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from transformers import Trainer
from trl import get_peft_config, get_quantization_config

from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.refusals import Refusal

from ..config import PGGRPOConfig
from ..dpo_config import PGDPOConfig
from ..dpo_trainer import PGDPOTrainer
from ..trainer import PGGRPOTrainer
from .data import load_splits, pick_split, require_columns
from .options import GroupArguments, PairArguments
from .rewards import find_reward


class Method(NamedTuple):
    """What a training command is made of."""

    script: type
    config: type
    trainer: type[Trainer]
    columns: tuple[str, ...]  # a dataset must have


METHODS = {
    "dapo": Method(GroupArguments, DAPOConfig, DAPOTrainer, ("prompt",)),
    "pggrpo": Method(GroupArguments, PGGRPOConfig, PGGRPOTrainer, ("prompt",)),
    "pgdpo": Method(PairArguments, PGDPOConfig, PGDPOTrainer, ("chosen", "rejected")),
}


def find_rewards(script) -> list:
    """
    The reward functions, and models, that the options name; modules of the user's are imported.

    Args:
        script:
            The parsed options of the command. Without `reward_funcs` among them there are no rewards to be found.

    Raises:
        Refusal: when none is given, or a name means nothing. What is wrong within a module comes as it was raised.
    """
    if not isinstance(script, GroupArguments):
        return []
    models = [script.reward_model_name_or_path] if script.reward_model_name_or_path else []
    found = [*models, *(find_reward(name) for name in script.reward_funcs or [])]
    if not found:
        raise Refusal("no reward is given. Set `reward_funcs` (names or dotted paths) or `reward_model_name_or_path`.")
    return found


def build_trainer(
    method: Method, rewards: list, script, config, model, mixture, callbacks: list, note: Callable[[str], None]
) -> Trainer:
    """
    Load dataset and model and put the trainer together.

    Args:
        method ([`Method`]):
            Which trainer.
        rewards (`list`):
            What [`find_rewards`] found.
        script, config, model, mixture:
            The parsed options.
        callbacks (`list`):
            For the trainer.
        note (`Callable`):
            Told what the user may want to know.

    Raises:
        ValueError: for options that name nothing, or that the trainer refuses.
    """
    if not model.model_name_or_path:
        raise ValueError("no model is given. Set `model_name_or_path` to a local directory or a name on the Hub.")
    arguments = {"reward_funcs": rewards} if isinstance(script, GroupArguments) else {}
    splits = load_splits(script, mixture, note)
    # What `datasets` gives is called train and, when it is split, test
    named = (script.dataset_train_split, script.dataset_test_split)
    train_name, test_name = ("train", "test") if mixture.datasets else named
    train = pick_split(splits, train_name, "dataset_train_split")
    require_columns(train, method.columns)
    evaluates = config.eval_strategy != "no"
    config.model_init_kwargs = _model_init_kwargs(config, model)
    trainer = method.trainer(
        model=model.model_name_or_path,
        args=config,
        train_dataset=train,
        eval_dataset=pick_split(splits, test_name, "dataset_test_split") if evaluates else None,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=callbacks,
        **arguments,
    )
    if script.ignore_bias_buffers:
        buffers = trainer.model.named_buffers()
        trainer.model._ddp_params_and_buffers_to_ignore = [name for name, each in buffers if each.dtype == torch.bool]
    return trainer


def _model_init_kwargs(config, model) -> dict[str, Any]:
    """Those of the model's options that `from_pretrained` takes; `model_init_kwargs` wins, as in TRL."""
    chosen = {
        "revision": model.model_revision,
        "trust_remote_code": config.trust_remote_code,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    }
    return {**chosen, **(config.model_init_kwargs or {})}
