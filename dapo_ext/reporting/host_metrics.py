"""TRL's own curves, made to cover everything generated instead of the groups that were kept."""

from collections.abc import Sequence

import torch
from trl.trainer.utils import nanstd

from ..sampling.rollouts import Round


Metrics = dict[str, list[float]]

COMPLETION_METRICS = (
    "completions/mean_length",
    "completions/min_length",
    "completions/max_length",
    "completions/clipped_ratio",
    "completions/mean_terminated_length",
    "completions/min_terminated_length",
    "completions/max_terminated_length",
)

# Those that the host's loss computes from the live tokens or rows of a micro-batch
LOSS_METRICS = (
    "entropy",
    "kl",
    "clip_ratio/low_mean",
    "clip_ratio/low_min",
    "clip_ratio/high_mean",
    "clip_ratio/high_max",
    "clip_ratio/region_mean",
    "cispo_clip_ratio",
    "vespo/phi_seq_mean",
)

UNSCORED = "rewards/unscored"


def count_unscored(metrics: Metrics, rewards_per_func: torch.Tensor) -> None:
    """Append the share of the completions `(R, F)` that no reward function has scored."""
    metrics[UNSCORED].append(rewards_per_func.isnan().all(dim=1).float().mean().item())


def replace_completion_metrics(metrics: Metrics, generated: Round, rounds: int) -> None:
    """
    Replace the last `rounds` entries of each `completions/*` metric and of `rewards/unscored`, one for each round
    whatever its size, by one entry over all completions.

    Args:
        metrics (`dict[str, list[float]]`):
            The host's metrics of the current mode; changed in place.
        generated ([`Round`]):
            Everything generated for the batch.
        rounds (`int`):
            Number of rounds it took.
    """
    lengths = generated.lengths.float()
    ended = lengths[~generated.truncated]
    ended = ended if ended.numel() else lengths.new_zeros(1)  # as the host does
    values = (
        lengths.mean(),
        lengths.min(),
        lengths.max(),
        generated.truncated.float().mean(),
        ended.mean(),
        ended.min(),
        ended.max(),
    )
    for name, value in zip(COMPLETION_METRICS, values, strict=True):
        metrics[name][-rounds:] = [value.item()]
    del metrics[UNSCORED][-rounds:]
    count_unscored(metrics, generated.rewards_per_func)


def replace_reward_metrics(
    metrics: Metrics, rewards_per_func: torch.Tensor, weights: torch.Tensor, names: Sequence[str], num_generations: int
) -> None:
    """
    Replace the last entry of `reward`, `reward_std`, `rewards/*` and `frac_reward_zero_std`.

    Args:
        metrics (`dict[str, list[float]]`):
            The host's metrics of the current mode; changed in place.
        rewards_per_func (`torch.Tensor` of shape `(R, F)`):
            Rewards of every generated completion, groups contiguous, NaN where a function gave none.
        weights (`torch.Tensor` of shape `(F,)`):
            TRL's reward weights.
        names (`Sequence[str]`):
            TRL's names of the reward functions.
        num_generations (`int`):
            Completions per group.
    """
    for name, column in zip(names, rewards_per_func.unbind(dim=1), strict=True):
        metrics[f"rewards/{name}/mean"][-1] = column.nanmean().item()
        metrics[f"rewards/{name}/std"][-1] = nanstd(column).item()
    rewards = (rewards_per_func * weights.to(rewards_per_func)).nansum(dim=1)
    rewards = rewards.masked_fill(rewards_per_func.isnan().all(dim=1), torch.nan)
    metrics["reward"][-1] = rewards.nanmean().item()
    metrics["reward_std"][-1] = nanstd(rewards).item()
    group_std = nanstd(rewards.view(-1, num_generations), dim=1)
    metrics["frac_reward_zero_std"][-1] = torch.isclose(group_std, torch.zeros_like(group_std)).float().mean().item()


def drop_loss_metrics(metrics: Metrics) -> None:
    """
    Remove the last entry of each of the loss's metrics, that of a micro-batch without a live row on any rank.

    The host enters 0 for it, which would pull the logged means towards 0. A metric without another entry is removed:
    the host would log it as `None`.

    Args:
        metrics (`dict[str, list[float]]`):
            The host's metrics of the current mode; changed in place.
    """
    for name in LOSS_METRICS:
        if name in metrics:  # the others belong to another loss
            metrics[name].pop()
            if not metrics[name]:
                del metrics[name]


def rescale_sequence_metrics(metrics: Metrics, live_row_share: float) -> None:
    """
    Make the metrics with one value per row, the sequence-level clip flags and VESPO's weight, means over the live rows.

    The host averages over all rows of the micro-batch; of a dead row the flags are 0 and the weight is that of a ratio
    of 1, which is 1.

    Args:
        metrics (`dict[str, list[float]]`):
            The host's metrics of the current mode; changed in place.
        live_row_share (`float`):
            Live rows of the micro-batch over all its rows, on all ranks; above 0.
    """
    for name in ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean", "cispo_clip_ratio"):
        if name in metrics:  # the others belong to another loss
            metrics[name][-1] /= live_row_share
    if "vespo/phi_seq_mean" in metrics:
        values = metrics["vespo/phi_seq_mean"]
        values[-1] = 1 + (values[-1] - 1) / live_row_share
    if "clip_ratio/low_min" in metrics:
        # The smallest flag of the live rows is 1 only if every one of them is clipped; the host's share is in float32
        metrics["clip_ratio/low_min"][-1] = float(metrics["clip_ratio/low_mean"][-1] > 1 - 1e-5)
