"""Prompts that leave the model no room for a completion are refused: before training where the dataset is known."""

from collections.abc import Iterator

import numpy as np
from accelerate.logging import get_logger
from datasets import Dataset
from trl import GRPOTrainer

from .form import refusal


logger = get_logger(__name__)

# Tokens that a chat template may add to a prompt; a longer template is found when the prompt is generated from
TEMPLATE_TOKENS = 1024
PROMPTS_AT_A_TIME = 1024


def context_length(config) -> int | None:
    """
    Positions a model was made for, or `None` where its configuration does not say.

    A factor by which rotary embeddings are stretched counts, whether or not `max_position_embeddings` includes it.
    """
    config = config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    rope = getattr(config, "rope_parameters", None) or {}
    stretched = [part.get("factor") or 1 for part in (rope, *rope.values()) if isinstance(part, dict)]
    return int(positions * max([1, *stretched]))


def check_prompt_lengths(trainer) -> None:
    """
    Refuse a map-style training dataset with prompts that fill the model's context; warn where completions may.

    A token is at least a byte long, so only prompts with more bytes than the context leaves tokens for are tokenized.

    Args:
        trainer (`DAPOTrainer`):
            After the host's constructor.

    Raises:
        ValueError: naming the first such row.
    """
    context, dataset = context_length(trainer.model.config), trainer.train_dataset
    room = trainer.max_completion_length or 0  # nobody knows what a completion without a limit needs
    by_host = trainer.rollout_func is not None or trainer.environment_factories is not None or trainer._is_vlm
    if context is None or by_host or not isinstance(dataset, Dataset):
        return
    limit = context - room - TEMPLATE_TOKENS
    rows = [row for row, prompt in enumerate(dataset["prompt"]) if len(repr(prompt).encode()) > limit]
    if not rows:
        return
    lengths = np.fromiter(_token_lengths(trainer, rows), dtype=np.int64, count=len(rows))
    full = np.flatnonzero(lengths >= context)
    if full.size:
        raise refusal(
            "train_dataset",
            f"{full.size} of {len(dataset)} prompts",
            f"they leave no room for a completion; the first is row {rows[full[0]]} with {lengths[full[0]]} tokens, "
            f"where the model's context holds {context}",
            "leave such rows out with dataset.filter, or shorten their prompts",
        )
    tight = int((lengths + room > context).sum())
    if tight:
        logger.warning(
            f"{tight} of {len(dataset)} prompts and max_completion_length={room} together exceed the model's context "
            f"of {context} tokens, beyond which it was not trained. Lower max_completion_length to "
            f"{context - lengths.max()}, or leave the longest prompts out."
        )


def _token_lengths(trainer, rows: list[int]) -> Iterator[int]:
    """Tokens of the prompts of some rows, of which few are held at a time."""
    for start in range(0, len(rows), PROMPTS_AT_A_TIME):
        part = trainer.train_dataset.select(rows[start : start + PROMPTS_AT_A_TIME])
        yield from map(len, GRPOTrainer._tokenize_prompts(trainer, part["prompt"][:])[0])


class FittingPrompts(GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] that refuses prompts which fill the context (of an iterable dataset, whose rows nobody has seen
    before), and completions without a token, which nothing can be learned from and the parent cannot index.
    """

    def _tokenize_prompts(self, prompts: list) -> tuple:
        prompt_ids, *images = super()._tokenize_prompts(prompts)
        context = context_length(self.model.config)
        longest = max(map(len, prompt_ids))
        if context is not None and longest >= context:
            raise refusal(
                "train_dataset" if self.model.training else "eval_dataset",
                f"a prompt of {longest} tokens",
                f"it leaves no room for a completion, the model's context holds {context}",
                "leave such rows out with dataset.filter, or shorten their prompts",
            )
        return prompt_ids, *images

    def _generate_single_turn(self, *args, **kwargs) -> tuple:
        training = self.model.training
        completion_ids, logprobs = super()._generate_single_turn(*args, **kwargs)
        if self.model.training != training:
            # Continuous batching leaves the model in training mode, and an evaluation would go on as a training step
            self.model.train(training)
        empty = sum(not ids for ids in completion_ids)
        if empty and not self.tools:  # a turn after a tool's answer may be empty
            raise RuntimeError(
                f"The generation backend returned {empty} of {len(completion_ids)} completions without a token, not "
                "even the one that ends a sequence. Check generation_kwargs (stop words, min_tokens) and the context "
                "length of the vLLM server."
            )
        return completion_ids, logprobs
