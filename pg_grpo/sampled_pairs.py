"""Preference pairs from a policy's own samples: a correct against a wrong completion of the same prompt."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl.data_utils import is_conversational

from dapo_ext import evaluate


def sample_pairs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    reward_func: Callable[..., list[float]],
    *,
    k: int = 8,
    max_completion_length: int = 256,
    temperature: float = 1.0,
    batch_size: int = 256,
    success_threshold: float = 0.5,
    seed: int = 0,
) -> Dataset:
    """
    Sample `k` completions per prompt and pair each correct one with a wrong one of the same prompt.

    This is the data on which [`PGDPOTrainer`] and TRL's `DPOTrainer` learn from a verifier without generating any more.
    Each completion is used once at most, in the order of sampling, so that a prompt gives as many pairs as it has
    completions of the rarer kind, and none where all are correct or all wrong. A completion that was cut off is in no
    pair, since the trainers would give it an end it does not have; nor is a text whose tokens are others than those
    that were sampled.

    Args:
        model ([`~transformers.PreTrainedModel`]), tokenizer ([`~transformers.PreTrainedTokenizerBase`]):
            Policy that writes both sides of every pair.
        dataset (`Dataset`):
            Prompts, with the columns the reward function reads.
        reward_func (`Callable`):
            Reward function as TRL takes it, sync or async.
        k (`int`, *optional*, defaults to `8`):
            Completions per prompt.
        max_completion_length (`int`, *optional*, defaults to `256`):
            Tokens after which a completion is cut off.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature, above 0.
        batch_size (`int`, *optional*, defaults to `256`):
            Completions generated at a time.
        success_threshold (`float`, *optional*, defaults to `0.5`):
            Reward from which on a completion is correct.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling.

    Returns:
        `Dataset`: columns `prompt`, `chosen` and `rejected`, in the format of the prompts: text or messages.

    Raises:
        ValueError: when not one prompt gave a pair, and as [`~dapo_ext.evaluate`] does.
    """
    sampled: dict[str, list] = {}

    @wraps(reward_func)
    def keep(prompts, completions, completion_ids, **columns):
        sampled.update(prompts=prompts, completions=completions, ids=completion_ids)
        return reward_func(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)

    result = evaluate(
        model,
        tokenizer,
        dataset,
        keep,
        k=k,
        max_completion_length=max_completion_length,
        temperature=temperature,
        batch_size=batch_size,
        seed=seed,
    )
    columns = (sampled["prompts"], sampled["completions"], sampled["ids"])
    usable = [_is_as_sampled(*row, tokenizer) for row in zip(*columns, strict=True)]
    pairs: list[dict[str, Any]] = []
    for row, rewards in enumerate(result.rewards):
        group = slice(row * k, (row + 1) * k)
        correct = (rewards >= success_threshold).tolist()
        pairs += make_pairs(sampled["prompts"][group.start], sampled["completions"][group], correct, usable[group])
    if not pairs:
        raise ValueError(
            f"None of {len(dataset)} prompts had a correct and a wrong completion among {k}. Of all completions "
            f"{(result.rewards >= success_threshold).mean():.0%} are correct, and {1 - sum(usable) / len(usable):.0%} "
            f"are in no pair, since they did not end within {max_completion_length} tokens or their text has other "
            "tokens than were sampled. Raise k or max_completion_length, or choose prompts that are solved sometimes."
        )
    return Dataset.from_list(pairs)


def make_pairs(
    prompt: Any, completions: Sequence[Any], correct: Sequence[bool], usable: Sequence[bool]
) -> list[dict[str, Any]]:
    """
    Pair the correct completions of a group with the wrong ones, in the order of sampling, each used once at most.

    Args:
        prompt (`str` or `list[dict]`):
            The group's prompt.
        completions (`Sequence`), correct (`Sequence[bool]`):
            Its completions, and which of them are correct.
        usable (`Sequence[bool]`):
            Completions that may be in a pair.

    Returns:
        `list[dict]`: as many pairs as there are of the rarer kind.
    """
    rows = [(text, right) for text, right, keep in zip(completions, correct, usable, strict=True) if keep]
    chosen = [text for text, right in rows if right]
    rejected = [text for text, right in rows if not right]
    return [
        {"prompt": prompt, "chosen": better, "rejected": worse} for better, worse in zip(chosen, rejected, strict=False)
    ]


def _is_as_sampled(prompt: Any, completion: Any, ids: list[int], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a trainer that is given prompt and text, and ends it, sees the tokens that were sampled."""
    if is_conversational({"completion": completion}):
        # The chat template writes what ends a message, so that the end is all there is to compare
        return ids[-1] == tokenizer.eos_token_id
    # Together, as the trainers tokenize them: a text by itself may begin with a token of its own
    whole = tokenizer(prompt + completion + tokenizer.eos_token)["input_ids"]
    return whole == tokenizer(prompt)["input_ids"] + ids
