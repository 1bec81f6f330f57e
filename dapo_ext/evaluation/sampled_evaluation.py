"""Evaluation by sampling: avg@k and pass@k with 95 % intervals, for any model, tokenizer, dataset and reward."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from .estimators import bootstrap_intervals, pass_at
from .sampling import decode, find_eos_token_ids, sample, tokenize
from .scoring import score


@dataclass(frozen=True)
class Evaluation:
    r"""
    Result of [`evaluate`]. Intervals are 95 % percentile bootstrap intervals `(low, high)` over prompts.

    They speak of the choice of prompts, and want some dozens of them: with few prompts they are too narrow, and with
    rewards that are all equal they have no width.

    Attributes:
        avg_at_k (`float`):
            Mean reward over prompts and completions.
        avg_at_k_interval (`tuple[float, float]`):
            Interval of `avg_at_k`.
        pass_at_k (`dict[int, float]`):
            For j = 1, 2, 4, ... and k: probability that at least one of j completions of a prompt succeeds.
        pass_at_k_interval (`dict[int, tuple[float, float]]`):
            Intervals of `pass_at_k`.
        k (`int`):
            Number of completions per prompt.
        num_prompts (`int`):
            Number of prompts.
        mean_length (`float`):
            Mean length of a completion in tokens, the end-of-sequence token included.
        truncated_fraction (`float`):
            Share of completions that reached `max_completion_length` without an end-of-sequence token.
        rewards (`numpy.ndarray` of shape `(num_prompts, k)`):
            The rewards, rows in the order of the dataset.
    """

    avg_at_k: float
    avg_at_k_interval: tuple[float, float]
    pass_at_k: dict[int, float]
    pass_at_k_interval: dict[int, tuple[float, float]]
    k: int
    num_prompts: int
    mean_length: float
    truncated_fraction: float
    rewards: np.ndarray = field(repr=False, compare=False)


def evaluate(
    model: str | os.PathLike | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Iterable[dict[str, Any]],
    reward_func: Callable[..., list[float]],
    *,
    k: int = 4,
    max_completion_length: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 256,
    success_threshold: float = 0.5,
    seed: int = 0,
) -> Evaluation:
    r"""
    Sample k completions per prompt and score them: avg@k and pass@k with intervals.

    With `c` the number of a prompt's completions that succeed (reward >= `success_threshold`), over prompts
    - `avg@k = mean(reward)`
    - `pass@j = mean(1 - C(k - c, j) / C(k, j))`, the unbiased estimator of Chen et al. (arXiv 2107.03374, equation 1).

    Prompts are tokenized, completions decoded and the reward function called as TRL's `GRPOTrainer` does it. Sampling
    options that a checkpoint ships (`top_k`, `min_p`, `repetition_penalty`) are switched off. Same arguments, same
    result; another `batch_size` draws other samples. The caller's torch random state and the model's training mode
    are left as they were.

    Args:
        model (`str`, `os.PathLike` or [`~transformers.PreTrainedModel`]):
            Model, or a directory or model id to load it from (onto the accelerator if there is one).
        tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Tokenizer of the model. Needs a chat template if the prompts are conversational.
        dataset (`Iterable[dict]`):
            A [`~datasets.Dataset`] or any finite iterable of rows, with a column `"prompt"`: a string, or a list of
            messages. The other columns go to the reward function.
        reward_func (`Callable`):
            Reward function as TRL takes it, sync or async, called once for all completions; a prompt's k completions
            follow each other. `trainer_state` is a fresh one, `log_extra` and `log_metric` do nothing.
        k (`int`, *optional*, defaults to `4`):
            Number of completions per prompt.
        max_completion_length (`int`, *optional*, defaults to `256`):
            Number of tokens after which a completion is cut off.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature, above 0.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass sampled from.
        batch_size (`int`, *optional*, defaults to `256`):
            Number of completions generated at a time.
        success_threshold (`float`, *optional*, defaults to `0.5`):
            Reward from which on a completion counts as a success.
        seed (`int`, *optional*, defaults to `0`):
            Seed of sampling and bootstrap.

    Returns:
        [`Evaluation`]:
            The figures and the rewards behind them.

    Raises:
        `ValueError`: If an argument is out of range, the dataset is empty or lacks `"prompt"`, or the reward function
            returns a wrong number of rewards or one that is None or not finite.
        `TypeError`: If `reward_func` is a model.
    """
    for name, value in (("k", k), ("max_completion_length", max_completion_length), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1.")
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be above 0: avg@k and pass@k are about samples.")
    if isinstance(reward_func, torch.nn.Module):
        raise TypeError("reward_func is a model. Wrap it in a function that takes completions and returns floats.")
    rows = list(dataset)
    if not rows or "prompt" not in rows[0]:
        columns = f" with the columns {list(rows[0])}" if rows else ""
        raise ValueError(f"dataset needs at least one row and a 'prompt' column, got {len(rows)} rows{columns}.")
    rows = [row for row in rows for _ in range(k)]

    # Every CUDA device is forked: `manual_seed` seeds them all.
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        if isinstance(model, str | os.PathLike):
            device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
            model = AutoModelForCausalLM.from_pretrained(model).to(device)
        prompt_ids = tokenize([row["prompt"] for row in rows[::k]], tokenizer)
        prompt_ids = [ids for ids in prompt_ids for _ in range(k)]
        eos_token_ids = find_eos_token_ids(model, tokenizer)
        generation_config = GenerationConfig(
            max_new_tokens=max_completion_length,
            do_sample=True,
            temperature=temperature,
            top_p=top_p,
            # Given although they are defaults: `generate` fills what is not given from the checkpoint's own config.
            top_k=0,
            min_p=0.0,
            repetition_penalty=1.0,
            use_cache=True,
            eos_token_id=eos_token_ids,
            pad_token_id=tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
            disable_compile=True,
        )
        completion_ids = sample(model, prompt_ids, generation_config, batch_size)
        completions = decode(rows, prompt_ids, completion_ids, tokenizer)
        rewards = score(reward_func, rows, completions, completion_ids).reshape(-1, k)

    sizes = sorted({k, *(2**i for i in range(k.bit_length()))})
    successes = (rewards >= success_threshold).sum(axis=1)
    figures = np.stack([rewards.mean(axis=1), *(pass_at(successes, k, size) for size in sizes)], axis=1)
    means, intervals = figures.mean(axis=0).tolist(), bootstrap_intervals(figures, seed)
    return Evaluation(
        avg_at_k=means[0],
        avg_at_k_interval=intervals[0],
        pass_at_k=dict(zip(sizes, means[1:], strict=True)),
        pass_at_k_interval=dict(zip(sizes, intervals[1:], strict=True)),
        k=k,
        num_prompts=len(rewards),
        mean_length=float(np.mean([len(ids) for ids in completion_ids])),
        truncated_fraction=float(np.mean([ids[-1] not in eos_token_ids for ids in completion_ids])),
        rewards=rewards,
    )
