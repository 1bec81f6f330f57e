"""What the preference ratio did in a micro-batch, over the completions (or tokens) of all ranks that count."""

from collections.abc import Callable

import torch

from .ratio import plain_log_ratio_bounds


NAMES = (
    "ratio_mean",
    "clipped_low",
    "clipped_high",
    "exponent_mean",
    "kl_weight",
    "plain_log_ratio_low",
    "plain_log_ratio_high",
)


def measure_ratio(
    log_ratio: torch.Tensor,
    exponents: torch.Tensor,
    surrogate_weights: torch.Tensor,
    advantages: torch.Tensor,
    mask: torch.Tensor,
    epsilon_low: float,
    epsilon_high: float,
    kl_coefficient: float,
    sum_over_ranks: Callable[[torch.Tensor], torch.Tensor],
    gather: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, float]:
    r"""
    Describe the ratios of a micro-batch: one for each of `N` completions or tokens that count, whatever the rank.

    Args:
        log_ratio (`torch.Tensor` of shape `(B, 1)` or `(B, T)`):
            `log p`, of completions or of tokens.
        exponents (`torch.Tensor` broadcastable to `log_ratio`):
            `b`.
        surrogate_weights (`torch.Tensor` broadcastable to `log_ratio`):
            Weight of a token's gradient in the surrogate beside that of its KL term: `b_i L_i`, or `pg_beta` with the
            token ratio.
        advantages (`torch.Tensor` of shape `(B, 1)` or `(B, T)`):
            Advantages.
        mask (`torch.Tensor` of shape `(B, T)`):
            Loss mask.
        epsilon_low (`float`), epsilon_high (`float`):
            Distances of the clip bounds from 1.
        kl_coefficient (`float`):
            TRL's `beta`.
        sum_over_ranks (`Callable`), gather (`Callable`):
            Sums a tensor over ranks, and concatenates it along the first dimension. Each is called once.

    Returns:
        `dict[str, float]`: means over what counts, NaN where nothing does:

        - `ratio_mean`, `ratio_min`, `ratio_max`: of `p`.
        - `clipped_low`, `clipped_high`: share whose gradient the clip has ended, below with `A < 0` and above with
          `A > 0`.
        - `exponent_mean`: of `b`.
        - `kl_weight`: `beta / (b_i L_i)`, or `beta / pg_beta` with the token ratio.
        - `plain_log_ratio_low`, `plain_log_ratio_high`: the clip bounds of `p` in `log(pi / pi_old)`, in nats.
    """
    ratio = log_ratio.exp()
    low = (ratio < 1 - epsilon_low) & (advantages < 0)
    high = (ratio > 1 + epsilon_high) & (advantages > 0)
    counts = mask.bool()
    if log_ratio.size(1) == 1:
        # Advantages may differ between the tokens of a completion where these are weighted
        low, high = ((flag & counts).any(dim=1, keepdim=True) for flag in (low, high))
        counts = counts.any(dim=1, keepdim=True)
    bounds = plain_log_ratio_bounds(epsilon_low, epsilon_high, exponents)
    values = (ratio, low, high, exponents, kl_coefficient / surrogate_weights, *bounds)
    values = torch.stack([value.expand_as(ratio)[counts].to(ratio).sum() for value in values])
    totals = sum_over_ranks(torch.cat([values, counts.sum().unsqueeze(0).to(values)]))
    live = ratio[counts]
    extremes = torch.stack([live.amin(), -live.amax()]) if live.numel() else ratio.new_full((2,), torch.inf)
    smallest = gather(extremes.unsqueeze(0)).amin(dim=0)
    measured = dict(zip(NAMES, (totals[:-1] / totals[-1]).tolist(), strict=True))
    measured["ratio_min"], measured["ratio_max"] = smallest[0].item(), -smallest[1].item()
    return {name: value if abs(value) != torch.inf else torch.nan for name, value in measured.items()}
