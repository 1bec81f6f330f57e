"""Exact denominators: what one optimizer step sums over, it divides by."""

import torch


def window_sums(counts: torch.Tensor, gradient_accumulation_steps: int) -> torch.Tensor:
    """
    Replace the count of each micro-batch by the sum over the optimizer step it belongs to.

    With `c_k` the count of micro-batch `k` and `A` micro-batches per optimizer step, entry `k` of the result is
    `sum_j c_j` over all `j` with `j // A == k // A` (DAPO, equation 8: `1 / sum_i |o_i|` over the whole step).

    Args:
        counts (`torch.Tensor` of shape `(S,)`):
            Tokens, or rows, of each of the `S` micro-batches of a generation, summed over ranks.
        gradient_accumulation_steps (`int`):
            Micro-batches per optimizer step, `A`; divides `S`.

    Returns:
        `torch.Tensor` of shape `(S,)`, same dtype.

    Raises:
        ValueError: if `S` is no multiple of `A`.
    """
    if counts.numel() % gradient_accumulation_steps != 0:
        raise ValueError(
            f"{counts.numel()} micro-batches cannot be divided into windows of {gradient_accumulation_steps}."
        )
    windows = counts.view(-1, gradient_accumulation_steps).sum(dim=1)
    return windows.repeat_interleave(gradient_accumulation_steps)
