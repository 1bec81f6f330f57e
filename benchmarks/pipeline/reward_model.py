"""A reward model of the warm start's own samples, and its scores as a reward function."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedModel, PrinterCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer.utils import pad, selective_log_softmax

from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.method_runs import load_policy, own_pairs, quiet
from benchmarks.harness.methods import NUM_GENERATIONS, offline
from benchmarks.harness.worlds import World
from benchmarks.pipeline.scalar_head import scalar_head_figures


PROMPTS_PER_UPDATE = 8  # of the RL that follows, each sampled 8 times: as many completions as an update trains on
HELD_OUT_PROMPTS = 256  # whose pairs the reward model is judged by
PAIRS_PER_UPDATE = 32
EPOCHS = 2  # puts .92 of 477 held-out pairs in order, after one epoch .88 (warm start 0)
LEARNING_RATE = 3e-4
LARGE_LEARNING_RATE = 5e-5  # of a policy for a GPU


@dataclass(frozen=True)
class RewardModel:
    r"""
    A trained reward model: DPO's implicit reward at `beta=1`,

    `r(x, y) = sum_t [log pi_rm(y_t | x, y_<t) - log pi_start(y_t | x, y_<t)]`,

    which DPO's loss fits to pairs as Bradley and Terry's model has it (Rafailov et al. 2023, section 4). The ratio, not
    `log pi_rm` alone: a likelihood falls with every token, so it would pay for short answers.

    Attributes:
        model, start ([`~transformers.PreTrainedModel`]), tokenizer:
            `pi_rm`, `pi_start`, and what both read.
    """

    model: PreTrainedModel
    start: PreTrainedModel
    tokenizer: Any

    @torch.no_grad()
    def scores(self, prompts: list[str], completion_ids: list[list[int]]) -> list[float]:
        """Rewards of completions, in nats; EOS counts where it was sampled."""
        prompt_ids = self.tokenizer(list(prompts))["input_ids"]
        rows = [torch.tensor([*before, *after]) for before, after in zip(prompt_ids, completion_ids, strict=True)]
        device = self.model.device
        inputs = {
            "input_ids": pad(rows, padding_value=self.tokenizer.pad_token_id).to(device),
            "attention_mask": pad([torch.ones_like(row) for row in rows], padding_value=0).to(device),
        }
        of_completion = [torch.arange(len(row)) >= len(before) for row, before in zip(rows, prompt_ids, strict=True)]
        ratios = _logps(self.model, inputs) - _logps(self.start, inputs)
        return (ratios * pad(of_completion, padding_value=0)[:, 1:].to(device)).sum(1).tolist()

    def accuracy(self, pairs: Dataset) -> float:
        """Share of the pairs whose chosen side scores higher."""
        chosen, rejected = (self.scores(pairs["prompt"], self._ended(pairs[side])) for side in ("chosen", "rejected"))
        return sum(c > r for c, r in zip(chosen, rejected, strict=True)) / len(pairs)

    def _ended(self, texts) -> list[list[int]]:
        return [[*ids, self.tokenizer.eos_token_id] for ids in self.tokenizer(list(texts))["input_ids"]]


def _logps(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probability of every token but the first, shape (rows, length - 1)."""
    logits = model(**inputs).logits[:, :-1].float()
    return selective_log_softmax(logits, inputs["input_ids"][:, 1:])


class LearnedReward:
    """The reward model's score of what was sampled, with its end; the verifier counts and decides nothing."""

    __name__ = "learned_reward"

    def __init__(self, reward_model: RewardModel, counted: CountedReward):
        self.reward_model, self.counted = reward_model, counted

    def __call__(self, prompts, completions, completion_ids, answer, **kwargs) -> list[float]:
        self.counted(completions=completions, completion_ids=completion_ids, answer=answer)
        return self.reward_model.scores(prompts, completion_ids)


def reward_settings(world: World) -> dict[str, Any]:
    """Fields of TRL's `DPOConfig`."""
    rate = LARGE_LEARNING_RATE if world.on_gpu else LEARNING_RATE
    settings = {**offline(PAIRS_PER_UPDATE), "learning_rate": rate, "num_train_epochs": EPOCHS, "beta": 1.0}
    return {**settings, **world.settings}


def train_reward_model(
    start: Path, world: World, seed: int, directory: Path, prompts: int, beside_scalar_head: bool = False
) -> tuple[RewardModel, dict[str, float]]:
    """
    Sample pairs for so many prompts from the policy at `start`, and train a copy of it to put them in order.

    Returns:
        `tuple`: the model, and figures: pairs it was trained on, tokens generated for them, share of held-out pairs it
        puts in the right order, and with `beside_scalar_head` what a scalar head makes of the same pairs.
    """
    quiet()
    tokenizer = AutoTokenizer.from_pretrained(start)
    counted = CountedReward(NUM_GENERATIONS)
    policy = load_policy(start, world)
    pairs = own_pairs(policy, tokenizer, world.dataset("train", prompts, seed), counted, seed, world)
    judged = world.dataset("tuning", HELD_OUT_PROMPTS, seed)
    held_out = own_pairs(policy, tokenizer, judged, CountedReward(NUM_GENERATIONS), seed, world)
    trainer = DPOTrainer(
        model=load_policy(start, world),
        ref_model=policy,
        args=DPOConfig(str(directory / "reward-model"), seed=seed, **reward_settings(world)),
        train_dataset=pairs,
        processing_class=tokenizer,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    tokenizer = AutoTokenizer.from_pretrained(start)  # the trainer may have changed its copy
    reward_model = RewardModel(trainer.model.eval(), policy.eval(), tokenizer)
    figures = {
        "pairs": len(pairs),
        "pair_tokens": counted.tokens,
        "reward_model_accuracy": reward_model.accuracy(held_out),
    }
    if beside_scalar_head:
        figures |= scalar_head_figures(start, world, seed, directory, pairs, held_out)
    return reward_model, figures
