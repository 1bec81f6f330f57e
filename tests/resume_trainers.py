"""Runs in which everything that a checkpoint must hold is in use, on one rank or more."""

import random

import numpy as np
from peft import LoraConfig

from tests.pg_tiny import pg_trainer
from tests.tiny import dapo_trainer, policy, prompts
from tests.tiny_pairs import pairs, pg_dpo_trainer


# Two epochs of two generations of four optimizer steps each, so that three checkpoints in four lie within a generation
LAYOUT = {"num_iterations": 2, "steps_per_generation": 4, "gradient_accumulation_steps": 2}
SAVING = {"max_steps": -1, "num_train_epochs": 2, "save_strategy": "steps", "save_steps": 1, "learning_rate": 3e-3}
# Ratios that leave their bounds after a few steps, so that there is something to select
STEEP = {"pg_beta": 1.0, "epsilon": 0.2, "epsilon_high": 0.2, "learning_rate": 1e-2}


def fickle_reward(completion_ids, **kwargs) -> list[float]:
    """Python's and numpy's random state decide with the completion."""
    return [
        reward * float(random.random() < 0.8) * float(np.random.random() < 0.9)
        for reward in (float(ids[0] % 4 == 0) for ids in completion_ids)
    ]


def dapo(output_dir, ranks: int = 1, **changes):
    options = {**SAVING, **LAYOUT, "per_device_train_batch_size": 4 // ranks, **changes}
    return dapo_trainer(output_dir, fickle_reward, prompts(10), {"model": policy()}, **options)


def pg_grpo(output_dir, ranks: int = 1, **changes):
    options = {**SAVING, **LAYOUT, "per_device_train_batch_size": 4 // ranks, "dynamic_sampling": True}
    options["prompt_selection"] = "predictive"
    return pg_trainer(output_dir, fickle_reward, prompts(10), {"model": policy()}, **{**options, **changes})


def pg_dpo(output_dir, ranks: int = 1, dropout: float = 0.3, **changes):
    """An adapter with dropout, which draws from torch's random state."""
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=dropout)
    options = {**SAVING, **STEEP, "learning_rate": 5e-2, "dynamic_pairs": True, "num_train_epochs": 4}
    options["disable_dropout"] = False  # which is on by default
    options["per_device_train_batch_size"] = 2 // ranks
    return pg_dpo_trainer(output_dir, pairs(14), {"model": policy(), "peft_config": lora}, **{**options, **changes})


TRAINERS = {"DAPOTrainer": dapo, "PGGRPOTrainer": pg_grpo, "PGDPOTrainer": pg_dpo}
