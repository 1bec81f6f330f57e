"""Pairs that cannot be trained on: equal ones are dropped and counted, empty ones are an error."""

from functools import partial
from typing import Any

from accelerate.logging import get_logger
from datasets import Dataset, IterableDataset

from dapo_ext.refusals import refusal


logger = get_logger(__name__)


def refuse_no_pairs(dataset: Dataset | IterableDataset | None) -> None:
    """
    Refuse a training dataset without a single pair, before the host looks at its first one.

    Raises:
        ValueError: naming the argument, its value, the reason and the remedy.
    """
    if isinstance(dataset, Dataset | IterableDataset) and next(iter(dataset), None) is None:
        raise refusal("train_dataset", "0 rows", "there are no pairs in it", "pass a dataset with at least one pair")


def trained_tokens(
    prompt_ids: list[int], completion_ids: list[int], max_length: int | None, truncation_mode: str
) -> tuple[list[int], int]:
    """
    What the collator leaves of a sequence.

    Returns:
        `tuple[list[int], int]`: the token ids after truncation, and how many of them are completion tokens with a
        log-probability (the first token of a sequence has none).
    """
    ids = prompt_ids + completion_ids
    kept = ids if max_length is None else ids[:max_length] if truncation_mode == "keep_start" else ids[-max_length:]
    completion = len(kept) - len(prompt_ids) if truncation_mode == "keep_start" else min(len(completion_ids), len(kept))
    return kept, completion - (completion == len(kept))


def pair_differs(example: dict[str, Any], index: int, max_length: int | None, truncation_mode: str) -> bool:
    """
    Whether chosen and rejected differ in the tokens that are trained on.

    Raises:
        ValueError: when either side has no token to score.
    """
    kept = {}
    for side in ("chosen", "rejected"):
        kept[side], scored = trained_tokens(example["prompt_ids"], example[f"{side}_ids"], max_length, truncation_mode)
        if scored < 1:
            raise ValueError(
                f"Pair {index} of the training dataset has an empty `{side}` completion: no token of it is left to "
                "score. Remove the pair, or raise `max_length` if the prompt leaves no room."
            )
    return kept["chosen"] != kept["rejected"]


def keep_trainable_pairs(
    dataset: Dataset | IterableDataset, max_length: int | None, truncation_mode: str, num_proc: int | None = None
) -> Dataset | IterableDataset:
    """
    Drop the training pairs whose chosen equals their rejected in the tokens that are trained on.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            Tokenized pairs, with the columns `prompt_ids`, `chosen_ids` and `rejected_ids`.
        max_length (`int` or `None`), truncation_mode (`str`):
            TRL's truncation.
        num_proc (`int`, *optional*):
            Processes at work on a map-style dataset.

    Returns:
        `Dataset` or `IterableDataset`: the others, in order. From an iterable dataset they are dropped as they come,
        without a count.

    Raises:
        ValueError: for a pair with an empty side (from an iterable dataset when it comes), or when no pair is left.
    """
    differs = partial(pair_differs, max_length=max_length, truncation_mode=truncation_mode)
    if isinstance(dataset, IterableDataset):
        return dataset.filter(differs, with_indices=True)
    what = "Dropping equal pairs from train dataset"
    kept = dataset.filter(differs, with_indices=True, num_proc=num_proc, desc=what)
    dropped = len(dataset) - len(kept)
    if dropped:
        logger.warning(
            f"{dropped} of {len(dataset)} training pairs were dropped: their chosen equals their rejected (after "
            f"truncation to max_length={max_length})."
        )
    if len(kept) == 0:
        reason = "not one has a chosen that differs from its rejected"
        raise refusal("train_dataset", f"{len(dataset)} pairs", reason, "pass pairs that differ, or raise max_length")
    return kept
