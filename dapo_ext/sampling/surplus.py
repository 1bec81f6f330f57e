"""Which groups are trained on now, and which informative ones wait for the next batch."""

from dataclasses import dataclass, field
from typing import Any

import torch

from .group_filter import Verdict
from .rollouts import Round


@dataclass
class Surplus:
    """Informative groups beyond the batch, waiting for the next one."""

    groups: Round | None = None  # this rank's share of their rows
    written_at: list[int] = field(default_factory=list)  # generation in which each group was written
    keys: list[Any] = field(default_factory=list)  # identity of each group's prompt, see `RoundPrompts`


@dataclass
class Choice:
    """What becomes of the groups at hand, by number: first those that waited, then those just generated."""

    kept: torch.Tensor  # trained on
    fillers: torch.Tensor  # dead ones that keep the batch's shape
    staying: torch.Tensor  # wait for the next batch
    staying_written_at: list[int]
    carried: int  # kept groups that an earlier policy wrote
    staleness_max: int  # generations since the oldest kept group was written
    surplus: int  # informative groups beyond the batch
    dropped_stale: int  # groups that waited and, not even trained on now, would be too old next time


def choose_groups(
    verdicts: torch.Tensor, waiting_written_at: list[int], generation: int, batch_groups: int, max_staleness: int
) -> Choice:
    """
    Take the waiting groups first, the oldest before all, then fresh ones, and let what is left wait.

    A group written in generation `w` may be trained on up to generation `w + max_staleness`. Taking the oldest first
    trains on every informative group as early as it can be; none becomes stale unless more wait than a batch holds.

    Args:
        verdicts (`torch.Tensor` of shape `(R,)`):
            [`Verdict`] of each group that was just generated.
        waiting_written_at (`list[int]`):
            Generation of each group that waited, ascending.
        generation (`int`):
            The generation at hand.
        batch_groups (`int`):
            Groups of a batch.
        max_staleness (`int`):
            Most generations between writing and training; 0 lets nothing wait.

    Returns:
        [`Choice`]
    """
    written_at = torch.tensor(waiting_written_at + [generation] * len(verdicts))
    informative = torch.cat([torch.ones(len(waiting_written_at), dtype=torch.bool), verdicts == Verdict.INFORMATIVE])
    numbers = informative.nonzero().flatten()
    kept, rest = numbers[:batch_groups], numbers[batch_groups:]
    young = generation + 1 - written_at[rest] <= max_staleness
    staying = rest[young]
    dropped_stale = int((~young & (rest < len(waiting_written_at))).sum())
    return Choice(
        kept=kept,
        fillers=(~informative).nonzero().flatten()[: batch_groups - len(kept)],
        staying=staying,
        staying_written_at=written_at[staying].tolist(),
        carried=int((kept < len(waiting_written_at)).sum()),
        staleness_max=generation - int(written_at[kept].min()) if len(kept) else 0,
        surplus=len(rest) - dropped_stale,
        dropped_stale=dropped_stale,
    )
