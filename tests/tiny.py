"""The smallest real trainers: a one-layer policy, rewards that are functions of the completion, a few rows."""

import functools
import tempfile
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground.policy import build_policy, build_tokenizer
from dapo_ext.playground.task import make_dataset


SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "intermediate_size": 64,
}
# 4 groups of 4 completions per generation, in two micro-batches
DEFAULTS: dict[str, Any] = {
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "save_strategy": "no",
    "logging_steps": 1,
    "learning_rate": 1e-3,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 8,
    "steps_per_generation": 2,
    "num_generations": 4,
    "max_completion_length": 8,
    "max_steps": 4,
}
# TRL's own trainer in the same setting
NEUTRAL = {"dynamic_sampling": False, "soft_overlong_cache": 0}
PAPER_ON_TRL = {"epsilon_high": 0.28}


def odd_length(completion_ids, **kwargs) -> list[float]:
    """1 for completions of odd length, else 0: for a random policy most groups are mixed."""
    return [float(len(ids) % 2) for ids in completion_ids]


def rare_first_token(completion_ids, **kwargs) -> list[float]:
    """1 for two of the 20 possible first tokens, whatever the length: about a third of the groups are mixed."""
    return [float(ids[0] in (4, 5)) for ids in completion_ids]


def distinct(completion_ids, **kwargs) -> list[float]:
    """A reward no two completions of a group share, so that every group is informative."""
    return [i + len(ids) / 100 for i, ids in enumerate(completion_ids)]


@functools.cache
def policy_dir() -> tempfile.TemporaryDirectory:
    """The untrained policy on disk, from where the host loads its reference model."""
    directory = tempfile.TemporaryDirectory(prefix="tiny-policy-")
    build_policy(0, **SMALL).save_pretrained(directory.name)
    build_tokenizer().save_pretrained(directory.name)
    return directory


def policy():
    return AutoModelForCausalLM.from_pretrained(policy_dir().name)


def prompts(size: int = 64) -> Dataset:
    return make_dataset("train", size)


def dapo_config(output_dir, **changes) -> DAPOConfig:
    return DAPOConfig(str(output_dir), **{**DEFAULTS, **changes})


def dapo_trainer(output_dir, reward_funcs=odd_length, dataset=None, trainer_args=None, **changes) -> DAPOTrainer:
    return _build(DAPOTrainer, dapo_config(output_dir, **changes), reward_funcs, dataset, trainer_args)


def trl_trainer(output_dir, reward_funcs=odd_length, dataset=None, trainer_args=None, **changes) -> GRPOTrainer:
    config = GRPOConfig(str(output_dir), **{**DEFAULTS, **PAPER_ON_TRL, **changes})
    return _build(GRPOTrainer, config, reward_funcs, dataset, trainer_args)


def _build(trainer_class, config, reward_funcs, dataset, trainer_args):
    trainer_args = trainer_args or {}
    return trainer_class(
        model=trainer_args.get("model") or policy(),
        reward_funcs=reward_funcs,
        args=config,
        train_dataset=prompts() if dataset is None else dataset,
        **{"processing_class": build_tokenizer(), **{k: v for k, v in trainer_args.items() if k != "model"}},
    )


def weights(trainer) -> torch.Tensor:
    """All parameters of the policy in one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])


def logged(trainer, name: str) -> list[float]:
    """Values of a metric in the order they were logged."""
    return [entry[name] for entry in trainer.state.log_history if name in entry]
