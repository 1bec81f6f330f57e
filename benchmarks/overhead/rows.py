"""What takes turns: trainers that do the same work as TRL's, and trainers with one feature on."""

import random
from dataclasses import dataclass
from typing import Any

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground import make_dataset, teacher_completion
from dapo_ext.playground.task import EOS_TOKEN_ID
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer


TRL = "trl"  # the row that the others are compared with
PROMPTS = 2048
COMMON: dict[str, Any] = {
    "use_cpu": not torch.cuda.is_available(),
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "disable_tqdm": True,
    "logging_steps": 1000,
    "save_strategy": "no",
}
LAYOUT: dict[str, Any] = {
    **COMMON,
    "per_device_train_batch_size": 32,
    "steps_per_generation": 4,
    "gradient_accumulation_steps": 4,  # one optimizer step per generation: the two trainers' denominators agree
    "num_generations": 8,
    "max_completion_length": 40,
    "learning_rate": 1e-4,
    "epsilon_high": 0.28,
}
PAIR_LAYOUT: dict[str, Any] = {**COMMON, "per_device_train_batch_size": 32, "learning_rate": 1e-4}


def of_length(tokens: int) -> dict[str, Any]:
    """Completions that end by themselves after exactly so many tokens: a policy that has learnt nothing ends sooner."""
    ends = {"min_new_tokens": tokens - 1, "forced_eos_token_id": EOS_TOKEN_ID}
    return {"max_completion_length": tokens, "generation_kwargs": ends}


@dataclass(frozen=True)
class Row:
    """One trainer that takes turns with others."""

    label: str
    trainer: type
    config: type
    settings: dict[str, Any]

    @property
    def is_offline(self) -> bool:
        return issubclass(self.trainer, DPOTrainer)

    def dataset(self, seed: int, size: int = PROMPTS) -> Dataset:
        return make_pairs(size, seed) if self.is_offline else make_prompts(size, seed)


def distinct(completion_ids, **kwargs) -> list[float]:
    """A reward no two completions share: every group is informative."""
    return [float(i) for i in range(len(completion_ids))]


def make_prompts(size: int, seed: int) -> Dataset:
    """Prompts of the playground; from 100,000 on any digits will do, since no answer is looked at."""
    if size < 100_000:
        return make_dataset("train", size, seed=seed)
    return Dataset.from_dict({"prompt": [f"{i:08d}=" for i in range(size)], "answer": ["0"] * size})


def make_pairs(size: int, seed: int) -> Dataset:
    """Two answers of the playground's teacher to each prompt, in no order of merit."""
    rng = random.Random(seed)
    rows = []
    for prompt in make_dataset("train", size, seed=seed)["prompt"]:
        answers = {teacher_completion(prompt, rng), f"{teacher_completion(prompt, rng)}#"}
        chosen, rejected = sorted(answers, key=len)
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return Dataset.from_list(rows)


NEUTRAL = {"dynamic_sampling": False, "soft_overlong_cache": 0}
SAMPLING = {"dynamic_sampling": True, "soft_overlong_cache": 0}


def _dapo(label: str, **settings: Any) -> Row:
    return Row(label, DAPOTrainer, DAPOConfig, settings)


GRPO_ROW = Row("TRL's `GRPOTrainer`", GRPOTrainer, GRPOConfig, {})
SAME_WORK = {
    TRL: GRPO_ROW,
    "again": Row("TRL's `GRPOTrainer` once more: the noise floor", GRPOTrainer, GRPOConfig, {}),
    "neutral": _dapo("`DAPOTrainer`, dynamic sampling and punishment off", **NEUTRAL),
    "replay": _dapo("`DAPOTrainer`, dynamic sampling on, nothing to refill", **SAMPLING),
}
FEATURES = {
    TRL: GRPO_ROW,
    "punishment": _dapo("soft overlong punishment", dynamic_sampling=False),
    "filtering": _dapo("overlong filtering", mask_truncated_completions=True, **NEUTRAL),
    "predictive": _dapo("dynamic sampling, prompts by estimated pass rate", prompt_selection="predictive", **SAMPLING),
    "entropy-weights": _dapo("tokens weighted by entropy", token_weighting="entropy", **NEUTRAL),
    "pg-ratio": Row("the preference ratio (`PGGRPOTrainer`, no KL)", PGGRPOTrainer, PGGRPOConfig, {"beta": 0.0}),
    "all": _dapo(
        "all of `DAPOTrainer`'s at once",
        mask_truncated_completions=True,
        prompt_selection="predictive",
        token_weighting="entropy",
    ),
}
PAIRS = {
    TRL: Row("TRL's `DPOTrainer`", DPOTrainer, DPOConfig, {}),
    "pg-dpo": Row("`PGDPOTrainer`", PGDPOTrainer, PGDPOConfig, {}),
    "dynamic-pairs": Row("`PGDPOTrainer`, dynamic pairs", PGDPOTrainer, PGDPOConfig, {"dynamic_pairs": True}),
}
