"""Evaluation by sampling: avg@k and pass@k with 95 % intervals, for any model, tokenizer, dataset and reward."""

import asyncio
import inspect
import math
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerState
from trl.chat_template_utils import parse_response
from trl.data_utils import is_conversational
from trl.trainer.utils import pad


BOOTSTRAP_SAMPLES = 2000
INTERVAL_PERCENTILES = (2.5, 97.5)


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
        prompt_ids = _tokenize([row["prompt"] for row in rows[::k]], tokenizer)
        prompt_ids = [ids for ids in prompt_ids for _ in range(k)]
        eos_token_ids = _eos_token_ids(model, tokenizer)
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
        completion_ids = _generate(model, prompt_ids, generation_config, batch_size)
        completions = _decode(rows, prompt_ids, completion_ids, tokenizer)
        rewards = _score(reward_func, rows, completions, completion_ids).reshape(-1, k)

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


def pass_at(successes: np.ndarray, k: int, size: int) -> np.ndarray:
    r"""
    Unbiased estimate of the probability that at least one of `size` completions succeeds, for each prompt.

    `1 - C(k - c, size) / C(k, size)`: one minus the share of the subsets of `size` out of the k completions that hold
    no success.

    Args:
        successes (`numpy.ndarray` of shape `(num_prompts,)`):
            Number c of successes among the k completions of each prompt.
        k (`int`):
            Number of completions per prompt.
        size (`int`):
            Number of completions of the estimate, 1 to k.

    Returns:
        `numpy.ndarray` of shape `(num_prompts,)`:
            The estimates, 0 to 1.
    """
    table = np.array([1 - math.comb(k - c, size) / math.comb(k, size) for c in range(k + 1)])
    return table[successes]


def bootstrap_intervals(figures: np.ndarray, seed: int = 0) -> list[tuple[float, float]]:
    r"""
    95 % percentile bootstrap intervals of the column means, resampling rows.

    Args:
        figures (`numpy.ndarray` of shape `(num_prompts, num_figures)`):
            Figures of each prompt.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the resampling.

    Returns:
        `list[tuple[float, float]]`:
            `(low, high)` of each column.
    """
    num_prompts = len(figures)
    # How often each prompt is drawn says all of a resample: (samples, prompts) counts instead of a 3-d gather.
    counts = np.random.default_rng(seed).multinomial(
        num_prompts, np.full(num_prompts, 1 / num_prompts), size=BOOTSTRAP_SAMPLES
    )
    low, high = np.percentile(counts @ figures / num_prompts, INTERVAL_PERCENTILES, axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _tokenize(prompts: list[Any], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each prompt, unpadded."""
    if is_conversational({"prompt": prompts[0]}):
        return tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=True, return_dict=True)[
            "input_ids"
        ]
    return tokenizer(text=prompts)["input_ids"]


def _eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a completion: the tokenizer's and those of the checkpoint's generation config."""
    of_model = model.generation_config.eos_token_id
    of_model = of_model if isinstance(of_model, list) else [of_model]
    return sorted({token for token in (tokenizer.eos_token_id, *of_model) if token is not None})


def _generate(
    model: PreTrainedModel, prompt_ids: list[list[int]], generation_config: GenerationConfig, batch_size: int
) -> list[list[int]]:
    """Sample one completion per prompt, up to and including its first end-of-sequence token, in the given order."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    # Batches of equal lengths waste no padding, and the longest come first so that memory runs out early if at all.
    order = sorted(range(len(prompt_ids)), key=lambda i: -len(prompt_ids[i]))
    completion_ids: list[list[int]] = [[]] * len(order)
    try:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            prompts = [torch.tensor(prompt_ids[i]) for i in batch]
            input_ids = pad(prompts, padding_value=generation_config.pad_token_id, padding_side="left")
            attention_mask = pad([torch.ones_like(p) for p in prompts], padding_value=0, padding_side="left")
            with torch.no_grad():
                output = model.generate(
                    input_ids=input_ids.to(model.device),
                    attention_mask=attention_mask.to(model.device),
                    generation_config=generation_config,
                )
            for i, ids in zip(batch, output[:, input_ids.size(1) :].tolist(), strict=True):
                end = next((t + 1 for t, token in enumerate(ids) if token in generation_config.eos_token_id), len(ids))
                completion_ids[i] = ids[:end]
    finally:
        for module, mode in modes:
            module.training = mode
    return completion_ids


def _decode(
    rows: list[dict[str, Any]],
    prompt_ids: list[list[int]],
    completion_ids: list[list[int]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Any]:
    """Completions in the format of the prompts: strings, or lists of one message."""
    if not is_conversational(rows[0]):
        return tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    if getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None):
        return [
            [parse_response(tokenizer, ids, prefix=prefix)]
            for ids, prefix in zip(completion_ids, prompt_ids, strict=True)
        ]
    texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    return [[{"role": "assistant", "content": text}] for text in texts]


def _score(
    reward_func: Callable[..., list[float]],
    rows: list[dict[str, Any]],
    completions: list[Any],
    completion_ids: list[list[int]],
) -> np.ndarray:
    """Call the reward function as `GRPOTrainer._calculate_rewards` does; one finite reward per row."""
    columns = [column for column in rows[0] if column not in ("prompt", "completion", "completion_ids")]
    output: Any = reward_func(
        prompts=[row["prompt"] for row in rows],
        completions=completions,
        completion_ids=completion_ids,
        **{column: [row[column] for row in rows] for column in columns},
        trainer_state=TrainerState(),
        log_extra=lambda column, values: None,
        log_metric=lambda name, value: None,
    )
    if inspect.isawaitable(output):
        # In a thread of its own, since a notebook's thread runs an event loop already.
        with ThreadPoolExecutor(1) as executor:
            output = executor.submit(asyncio.run, cast(Any, output)).result()
    name = getattr(reward_func, "__name__", type(reward_func).__name__)
    rewards = [math.nan if reward is None else float(reward) for reward in output]
    if len(rewards) != len(rows):
        raise ValueError(
            f"The reward function '{name}' returned {len(rewards)} rewards for {len(rows)} completions. It must return "
            f"one per completion."
        )
    bad = [i for i, reward in enumerate(rewards) if not math.isfinite(reward)]
    if bad:
        raise ValueError(
            f"The reward function '{name}' returned None or a value that is not finite for {len(bad)} of {len(rows)} "
            f"completions, first for the prompt {rows[bad[0]]['prompt']!r}. A mean over the rest would be "
            f"biased: return a number for every completion, or leave these prompts out of the dataset."
        )
    return np.array(rewards)
