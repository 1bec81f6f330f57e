"""The smallest real preference trainers: random digit strings as pairs, a one-layer policy, a separate reference."""

import copy
import random
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from dapo_ext.playground.policy import build_policy, build_tokenizer
from pg_grpo import PGDPOConfig, PGDPOTrainer
from tests.tiny import SMALL


# 4 pairs per optimizer step, in two micro-batches
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
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "max_steps": 3,
}


def pairs(size: int = 16, seed: int = 0, longest: int = 6) -> Dataset:
    """Pairs that differ, with completions of 1 to `longest` digits and the EOS token."""
    rng = random.Random(seed)

    def digits(least: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(rng.randint(least, longest)))

    rows = []
    while len(rows) < size:
        row = {"prompt": digits(2) + "=", "chosen": digits(1), "rejected": digits(1)}
        if row["chosen"] != row["rejected"]:
            rows.append(row)
    return Dataset.from_list(rows)


def pg_dpo_config(output_dir, **changes) -> PGDPOConfig:
    return PGDPOConfig(str(output_dir), **{**DEFAULTS, **changes})


def pg_dpo_trainer(output_dir, dataset=None, trainer_args=None, **changes) -> PGDPOTrainer:
    return _build(PGDPOTrainer, pg_dpo_config(output_dir, **changes), dataset, trainer_args)


def dpo_trainer(output_dir, dataset=None, trainer_args=None, **changes) -> DPOTrainer:
    return _build(DPOTrainer, DPOConfig(str(output_dir), **{**DEFAULTS, **changes}), dataset, trainer_args)


def _build(trainer_class, config, dataset, trainer_args):
    trainer_args = dict(trainer_args or {})
    model = trainer_args.setdefault("model", build_policy(0, **SMALL))
    if "peft_config" not in trainer_args and not config.precompute_ref_log_probs:
        trainer_args.setdefault("ref_model", copy.deepcopy(model))
    return trainer_class(
        args=config,
        train_dataset=pairs() if dataset is None else dataset,
        processing_class=build_tokenizer(),
        **trainer_args,
    )
