"""
Importance weights of tokens, as pure functions: `sum_it w_it m_it l_it / Z` in the place of the plain mean.

A weight of at least 0 commutes with the minimum in the surrogate `l_it = -min(rho A, clip(rho) A)`, so it can be
multiplied into the advantage; and scaled to mean 1, the unweighted loss's own denominator is already `Z`. With `u` the
weights as they were given:

- `"batch"`, mean 1 over the tokens of the optimizer step: the token mean `sum m l / sum m` becomes
  `sum u m l / sum u m`, and `"dr_grpo"`, the same sum over a constant, changes by the same factor.
- `"completion"`, mean 1 over the tokens of each completion: the mean over completions `1/N sum_i 1/L_i sum_t m l`
  becomes `1/N sum_i sum_t v m l`, where the `v = u / sum_t u m` of a completion sum to 1 and `N` counts the live ones.

Equal weights become exactly 1, whatever their value, and give the unweighted losses to the bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .denominators import window_sums


def check_token_weights(weights: Any, mask: torch.Tensor) -> torch.Tensor:
    """
    Refuse what are no weights, and set them to 0 where the mask is 0.

    Args:
        weights (`torch.Tensor` of shape `(B, T)`):
            As a `token_weight_fn` returned them; anything may stand at positions that do not count.
        mask (`torch.Tensor` of shape `(B, T)`):
            Loss mask.

    Returns:
        `torch.Tensor` of shape `(B, T)`: floating point, without gradient.

    Raises:
        ValueError: for another type or shape, and for a weight that is negative or not finite.
    """
    shape = tuple(mask.shape)
    if not isinstance(weights, torch.Tensor) or tuple(weights.shape) != shape:
        got = f"shape {tuple(weights.shape)}" if isinstance(weights, torch.Tensor) else type(weights).__name__
        raise ValueError(f"token_weight_fn returned {got}. Return a tensor of shape {shape}, one weight per token.")
    weights = weights.detach().to(mask.device)
    weights = weights.to(torch.promote_types(weights.dtype, torch.float32)).masked_fill(mask == 0, 0)
    bad = ~weights.isfinite() | (weights < 0)
    if bad.any():
        raise ValueError(
            f"A token that counts has the weight {weights[bad][0].item()}. Weights must be finite and at least 0: a "
            "negative one would turn the minimum of the clipped surrogate into a maximum."
        )
    return weights


def normalize_in_completions(weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    Scale the weights of each completion to mean 1 over its tokens, `w_it = L_i u_it / sum_t u_it m_it`.

    Args:
        weights (`torch.Tensor` of shape `(B, T)`):
            `u`, from [`check_token_weights`].
        mask (`torch.Tensor` of shape `(B, T)`):
            Loss mask.

    Returns:
        `torch.Tensor` of shape `(B, T)`. A completion whose weights are all 0 keeps them: it is without surrogate, and
        still one of the live ones that the loss is divided by.
    """
    largest = weights.amax(dim=1, keepdim=True)
    weights = weights / largest.masked_fill(largest == 0, 1)
    total = weights.sum(dim=1, keepdim=True)
    return weights * (mask.to(weights).sum(dim=1, keepdim=True) / total.masked_fill(total == 0, 1))


def normalize_in_steps(
    weights: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    gradient_accumulation_steps: int,
    gather: Callable[[torch.Tensor], torch.Tensor],
) -> list[torch.Tensor]:
    """
    Scale the weights of each optimizer step to mean 1 over its tokens, `w = u * (sum m / sum u m)`.

    Args:
        weights (sequence of `S` `torch.Tensor` of shape `(B, T)`):
            `u` of each micro-batch of a generation on this rank, from [`check_token_weights`].
        masks (sequence of `S` `torch.Tensor` of shape `(B, T)`):
            Their loss masks.
        gradient_accumulation_steps (`int`):
            Micro-batches per optimizer step; divides `S`.
        gather (`Callable`):
            Concatenates a tensor over ranks along its first dimension. Called twice on every rank.

    Returns:
        `list[torch.Tensor]` of shape `(B, T)`. A step whose weights are all 0 keeps them.
    """
    # Divided by the largest of the step first: equal weights become 1 exactly, and their sum cannot overflow
    largest = gather(torch.stack([weight.amax() for weight in weights]).unsqueeze(0)).amax(dim=0)
    largest = largest.view(-1, gradient_accumulation_steps).amax(dim=1).repeat_interleave(gradient_accumulation_steps)
    weights = [weight / top for weight, top in zip(weights, largest.masked_fill(largest == 0, 1), strict=True)]
    sums = [torch.stack([mask.to(w).sum(), w.sum()]) for w, mask in zip(weights, masks, strict=True)]
    sums = window_sums(gather(torch.stack(sums).unsqueeze(0)).sum(dim=0), gradient_accumulation_steps)
    tokens, total = sums.unbind(dim=1)
    scales = tokens / total.masked_fill(total == 0, 1)
    return [weight * scale for weight, scale in zip(weights, scales, strict=True)]
