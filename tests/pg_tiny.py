"""The smallest real PG-GRPO trainers."""

from dapo_ext.playground.policy import build_tokenizer
from pg_grpo import PGGRPOConfig, PGGRPOTrainer
from tests.tiny import DEFAULTS, odd_length, policy, prompts


# 4 groups of 4 completions per generation in four micro-batches, two of them per optimizer step
LAYOUT = {"per_device_train_batch_size": 4, "steps_per_generation": 4, "gradient_accumulation_steps": 2}


def pg_config(output_dir, **changes) -> PGGRPOConfig:
    return PGGRPOConfig(str(output_dir), **{**DEFAULTS, **LAYOUT, **changes})


def pg_trainer(output_dir, reward_funcs=odd_length, dataset=None, trainer_args=None, **changes) -> PGGRPOTrainer:
    trainer_args = trainer_args or {}
    return PGGRPOTrainer(
        model=trainer_args.get("model") or policy(),
        reward_funcs=reward_funcs,
        args=pg_config(output_dir, **changes),
        train_dataset=prompts() if dataset is None else dataset,
        **{"processing_class": build_tokenizer(), **{k: v for k, v in trainer_args.items() if k != "model"}},
    )
