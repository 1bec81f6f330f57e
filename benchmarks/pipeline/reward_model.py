"""A reward model of the warm start's own samples, and its scores as a reward function."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PrinterCallback
from trl import RewardConfig, RewardTrainer
from trl.trainer.utils import pad

from benchmarks.counted_reward import CountedReward
from benchmarks.method_runs import load_policy, own_pairs, quiet
from benchmarks.methods import NUM_GENERATIONS, offline
from benchmarks.worlds import World, device


PROMPTS_PER_UPDATE = 24  # of the RL that follows; each is sampled 8 times
HELD_OUT_PROMPTS = 128  # whose pairs the reward model is judged by
PAIRS_PER_UPDATE = 32
EPOCHS = 3
LEARNING_RATE = 1e-3
LARGE_LEARNING_RATE = 5e-5  # of a policy for a GPU


@dataclass(frozen=True)
class RewardModel:
    """
    A trained reward model.

    Attributes:
        model ([`~transformers.PreTrainedModel`]), tokenizer:
            Score of a prompt and its completion, EOS included.
        figures (`dict`):
            Pairs it was trained on, tokens generated for them, and share of held-out pairs it puts in the right order.
    """

    model: PreTrainedModel
    tokenizer: Any
    figures: dict[str, float]

    @torch.no_grad()
    def scores(self, prompts: list[str], completion_ids: list[list[int]]) -> list[float]:
        prompt_ids = self.tokenizer(list(prompts))["input_ids"]
        rows = [torch.tensor([*before, *after]) for before, after in zip(prompt_ids, completion_ids, strict=True)]
        input_ids = pad(rows, padding_value=self.tokenizer.pad_token_id).to(self.model.device)
        mask = pad([torch.ones_like(row) for row in rows], padding_value=0).to(self.model.device)
        return self.model(input_ids=input_ids, attention_mask=mask).logits[:, 0].float().tolist()


class LearnedReward:
    """The reward model's score of what was sampled, with its end; the verifier counts and decides nothing."""

    __name__ = "learned_reward"

    def __init__(self, reward_model: RewardModel, counted: CountedReward):
        self.reward_model, self.counted = reward_model, counted

    def __call__(self, prompts, completions, completion_ids, answer, **kwargs) -> list[float]:
        self.counted(completions=completions, completion_ids=completion_ids, answer=answer)
        return self.reward_model.scores(prompts, completion_ids)


def reward_settings(world: World) -> dict[str, Any]:
    """Fields of TRL's `RewardConfig`."""
    rate = LARGE_LEARNING_RATE if world.on_gpu else LEARNING_RATE
    settings = {**offline(PAIRS_PER_UPDATE), "learning_rate": rate, "num_train_epochs": EPOCHS}
    return {**settings, "disable_dropout": True, **world.settings}


def train_reward_model(start: Path, world: World, seed: int, directory: Path, prompts: int) -> RewardModel:
    """Sample pairs for so many prompts from the policy at `start`, and train a copy of it to put them in order."""
    quiet()
    tokenizer = AutoTokenizer.from_pretrained(start)
    counted = CountedReward(NUM_GENERATIONS)
    policy = load_policy(start, world)
    pairs = own_pairs(policy, tokenizer, world.dataset("train", prompts, seed), counted, seed, world)
    judged = world.dataset("tuning", HELD_OUT_PROMPTS, seed)
    held_out = own_pairs(policy, tokenizer, judged, CountedReward(NUM_GENERATIONS), seed, world)
    model = AutoModelForSequenceClassification.from_pretrained(start, num_labels=1)
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(str(directory / "reward-model"), seed=seed, **reward_settings(world)),
        train_dataset=pairs,
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    tokenizer = AutoTokenizer.from_pretrained(start)  # the trainer may have changed its copy
    reward_model = RewardModel(model.eval().to(device() if world.on_gpu else "cpu"), tokenizer, {})
    figures = {
        "pairs": len(pairs),
        "pair_tokens": counted.tokens,
        "reward_model_accuracy": _accuracy(reward_model, held_out),
    }
    return RewardModel(reward_model.model, tokenizer, figures)


def _accuracy(reward_model: RewardModel, pairs) -> float:
    """Share of the pairs whose chosen side scores higher."""

    def scores(side: str) -> list[float]:
        ids = reward_model.tokenizer(list(pairs[side]))["input_ids"]
        ended = [[*each, reward_model.tokenizer.eos_token_id] for each in ids]
        return reward_model.scores(pairs["prompt"], ended)

    chosen, rejected = scores("chosen"), scores("rejected")
    return sum(c > r for c, r in zip(chosen, rejected, strict=True)) / len(pairs)
