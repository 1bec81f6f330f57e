"""One run of one method: what is trained, and what is measured beyond the curve."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from datasets import Dataset, concatenate_datasets
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerState
from trl.trainer.utils import entropy_from_logits, pad

from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.curve import Curve
from benchmarks.harness.methods import NUM_GENERATIONS, PROMPTS_PER_GENERATION, Method
from benchmarks.harness.run_spec import RunSpec
from benchmarks.harness.worlds import PLAYGROUND, World, device
from dapo_ext import evaluate
from pg_grpo import sample_pairs


START = "start"  # the row that trains nothing
TRAINING_PROMPTS = 4096
ENTROPY_PROMPTS = 256
# Logged metric -> what it is in a record; the offline trainer's are shares of one side of the pairs each
CLIP_METRICS = {
    "clip_ratio/low_mean": "low",
    "clip_ratio/high_mean": "high",
    "clip_ratio/region_mean": "share",
    "pg_dpo/rejected_clipped_low": "low",
    "pg_dpo/chosen_clipped_high": "high",
}


@dataclass(frozen=True)
class MethodSpec(RunSpec):
    """A run whose file also says its split and what was tried in it."""

    tried: Mapping[str, float] = field(default_factory=dict)  # of `changes`, what trials decide

    @property
    def key(self) -> str:
        return "-".join([super().key, self.split, *(f"{name}{value:g}" for name, value in self.tried.items())])


def train_method(
    method: Method | None,
    spec: MethodSpec,
    start: Path,
    dataset: Dataset | None = None,
    reward: Callable[[CountedReward], Callable] = lambda counted: counted,
) -> dict[str, Any]:
    """
    Carry out one run.

    Args:
        method ([`Method`] or `None`):
            What to train with; `None` trains nothing.
        spec ([`MethodSpec`]):
            The run.
        start (`Path`):
            Directory of the policy to start from.
        dataset (`Dataset`, *optional*):
            Prompts, by default 4,096 fresh ones.
        reward (`Callable`, *optional*):
            Makes the reward function of the verifier that counts; by default it is this one.

    Returns:
        `dict`: the points of the curve, the clip shares, the means of what was logged, and the entropy at the end.
    """
    quiet()
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = load_policy(start, spec.where)
    counted = CountedReward(NUM_GENERATIONS)
    curve = Curve(spec, tokenizer, counted)
    record: dict[str, Any] = {"points": curve.points}
    if method is None:
        curve.on_train_begin(None, TrainerState(), None, model=model)
        curve.on_train_end(None, TrainerState(), None, model=model)
    else:
        dataset = spec.where.dataset("train", TRAINING_PROMPTS, spec.seed) if dataset is None else dataset
        rewards: dict[str, Any] = {"reward_funcs": reward(counted)}
        if method.is_offline:
            rewards = {}
            dataset = pairs_for_budget(model, tokenizer, dataset, counted, spec)
            record["pairs"] = len(dataset)
        record |= train_with(method, spec, model, tokenizer, dataset, [curve], rewards)
        record["length_spread"] = counted.length_spread()
    prompts = curve.held_out.select(range(min(ENTROPY_PROMPTS, spec.held_out)))
    return record | {"entropy": mean_entropy(model, tokenizer, prompts, spec.where)}


def train_with(method, spec, model, tokenizer, dataset, callbacks, trainer_arguments) -> dict[str, Any]:
    """Train and say what was logged."""
    with tempfile.TemporaryDirectory() as directory:
        trainer = method.trainer(
            model=model,
            args=method.config(directory, seed=spec.seed, max_steps=spec.steps, **spec.changes),
            train_dataset=dataset,
            processing_class=tokenizer,
            callbacks=callbacks,
            **trainer_arguments,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return {
        "clip": clip_shares(trainer.state.log_history),
        "logged": run_means(trainer.state.log_history),
        "stop_reason": getattr(trainer, "stop_reason", None),
    }


def quiet() -> None:
    """Without the libraries' notices and bars, which would bury the campaign's own."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def load_policy(directory: Path, world: World):
    """A policy, where its world trains it."""
    return AutoModelForCausalLM.from_pretrained(directory).to(device() if world.on_gpu else "cpu")


def own_pairs(model, tokenizer, prompts: Dataset, counted: CountedReward, seed: int, world: World) -> Dataset:
    """Pairs of a correct and a wrong one of the policy's own completions, whatever is generated counted."""
    return sample_pairs(
        model,
        tokenizer,
        prompts,
        counted,
        k=counted.num_generations,
        max_completion_length=world.max_completion_length,
        batch_size=world.evaluation_batch,
        seed=seed,
    )


def pairs_for_budget(model, tokenizer, prompts: Dataset, counted: CountedReward, spec: RunSpec) -> Dataset:
    """
    Pairs of the policy's own completions, as many prompts at a time as a generation has, until the tokens are spent.

    Raises:
        ValueError: when the run has no token budget, or the prompts do not suffice for it.
    """
    if spec.token_budget is None:
        raise ValueError(f"{spec.key} samples before it trains and needs a token_budget to know how much.")
    pairs = []
    for first in range(0, len(prompts), PROMPTS_PER_GENERATION):
        batch = prompts.select(range(first, min(first + PROMPTS_PER_GENERATION, len(prompts))))
        seed = spec.seed * TRAINING_PROMPTS + first  # no batch draws what another drew
        pairs.append(own_pairs(model, tokenizer, batch, counted, seed, spec.where))
        if counted.tokens >= spec.token_budget:
            return concatenate_datasets(pairs)
    raise ValueError(
        f"{spec.key}: token_budget={spec.token_budget} is not reached by sampling all {len(prompts)} prompts, which "
        f"gave {counted.tokens} tokens. Choose a smaller budget."
    )


def clip_shares(log_history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """
    Share of what is clipped, over the second half of a run, wherever it ended.

    Args:
        log_history (`Sequence[Mapping]`):
            Logged records with their `step`.

    Returns:
        `dict`: `low`, `high` and their joint `share`: of tokens, or of completions where these have one ratio. Empty
        where nothing is clipped by design.
    """
    last = max((entry["step"] for entry in log_history), default=0)
    late = run_means([entry for entry in log_history if entry["step"] > last / 2])
    shares = {name: late[metric] for metric, name in CLIP_METRICS.items() if metric in late}
    if shares and "share" not in shares:
        shares["share"] = (shares["low"] + shares["high"]) / 2  # a pair is one chosen and one rejected completion
    return shares


def run_means(log_history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of each metric over the records that have it; of the last record, which sums a run up, only what recurs."""
    values: dict[str, list[float]] = {}
    for entry in log_history:
        if "train_runtime" not in entry:
            for name, value in entry.items():
                values.setdefault(name, []).append(value)
    return {name: float(np.mean(each)) for name, each in values.items() if name not in ("step", "epoch")}


@torch.no_grad()
def mean_entropy(model, tokenizer, prompts: Dataset, world: World = PLAYGROUND) -> float:
    """Entropy of the policy at the tokens it samples, in nats per token: the mean over one completion per prompt."""
    completions: list[list[int]] = []

    def keep(completion_ids, **columns) -> list[float]:
        completions.extend(completion_ids)
        return [0.0] * len(completion_ids)

    limit, batch_size = world.max_completion_length, world.evaluation_batch
    evaluate(model, tokenizer, prompts, keep, k=1, max_completion_length=limit, batch_size=batch_size)
    prompt_ids = tokenizer(list(prompts["prompt"]))["input_ids"]
    rows = [torch.tensor(before + after) for before, after in zip(prompt_ids, completions, strict=True)]
    counts = [torch.arange(len(row)) >= len(before) for row, before in zip(rows, prompt_ids, strict=True)]
    model.eval()
    # Padding is on the right, where causal attention never sees it
    logits = model(pad(rows, padding_value=tokenizer.pad_token_id).to(model.device)).logits[:, :-1]
    return entropy_from_logits(logits.float())[pad(counts, padding_value=0)[:, 1:].bool()].mean().item()
