"""Exact denominators: what one optimizer step sums over, it divides by."""

from collections.abc import Callable
from typing import Any

import torch


def window_sums(counts: torch.Tensor, gradient_accumulation_steps: int) -> torch.Tensor:
    """
    Replace the count of each micro-batch by the sum over the optimizer step it belongs to.

    With `c_k` the count of micro-batch `k` and `A` micro-batches per optimizer step, entry `k` of the result is
    `sum_j c_j` over all `j` with `j // A == k // A` (DAPO, equation 8: `1 / sum_i |o_i|` over the whole step).

    Args:
        counts (`torch.Tensor` of shape `(S, ...)`):
            Tokens, or rows, of each of the `S` micro-batches of a generation, summed over ranks.
        gradient_accumulation_steps (`int`):
            Micro-batches per optimizer step, `A`; divides `S`.

    Returns:
        `torch.Tensor` of the shape and dtype of `counts`.

    Raises:
        ValueError: if `S` is no multiple of `A`.
    """
    if len(counts) % gradient_accumulation_steps != 0:
        raise ValueError(
            f"{len(counts)} micro-batches cannot be divided into windows of {gradient_accumulation_steps}."
        )
    windows = counts.unflatten(0, (-1, gradient_accumulation_steps)).sum(dim=1)
    return windows.repeat_interleave(gradient_accumulation_steps, dim=0)


def set_denominators(
    micro_batches: list[dict[str, Any]],
    gradient_accumulation_steps: int,
    num_processes: int,
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    """
    Give every micro-batch of a generation the token and row counts of its own optimizer step.

    With `P` ranks, `S` micro-batches per generation, `A` per optimizer step and `B` rows per micro-batch and rank:

    - TRL divides a token mean by `num_items_in_batch / P * A / S` and leaves the mean over ranks to the gradients'
      reduction. `num_items_in_batch = W * S / A` makes it the step's own token count `W`.
    - TRL divides a row mean by `B * A`, again with the mean over ranks to follow. The factor `row_mean_scale =
      B * A * P / (live rows of the step)` makes it the mean over the rows that are left.

    Sets `num_items_in_batch`, `row_mean_scale`, `window_is_empty` (the step has no live row) and `live_row_share` (of
    this micro-batch, over all ranks) in each of the dicts.

    Args:
        micro_batches (`list[dict]`):
            The generation's micro-batches on this rank, in the order they are trained on; changed in place.
        gradient_accumulation_steps (`int`):
            Micro-batches per optimizer step; divides their number.
        num_processes (`int`):
            Number of ranks.
        sum_over_ranks (`Callable`):
            Sums a tensor over ranks; called once.
    """
    counts = []
    for batch in micro_batches:
        mask = batch["completion_mask"] * batch.get("tool_mask", 1)
        counts.append(torch.stack([mask.sum(), mask.any(dim=1).sum()]))
    counts = sum_over_ranks(torch.stack(counts))  # (S, 2): tokens and live rows
    windows = window_sums(counts, gradient_accumulation_steps)
    steps = len(micro_batches) // gradient_accumulation_steps
    for batch, tokens, live, window_live in zip(
        micro_batches, windows[:, 0], counts[:, 1].tolist(), windows[:, 1].tolist(), strict=True
    ):
        rows = batch["completion_mask"].size(0) * num_processes
        batch["num_items_in_batch"] = tokens * steps
        batch["row_mean_scale"] = rows * gradient_accumulation_steps / max(window_live, 1)
        batch["window_is_empty"] = window_live == 0
        batch["live_row_share"] = live / rows
