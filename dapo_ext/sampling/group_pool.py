"""Groups generated on any rank, chosen by number and brought to the ranks in whose share they fall."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

from .rollouts import Rollout, Round


Row = TypeVar("Row")  # whatever can be sent between ranks


def rank_slice(num_rows: int, process_index: int, num_processes: int) -> slice:
    """The contiguous share of a rank: `ceil(num_rows / num_processes)` rows, fewer or none on the last ranks."""
    share = -(-num_rows // num_processes)
    return slice(min(process_index * share, num_rows), min((process_index + 1) * share, num_rows))


def numbered_rows(parts: list[Round], process_index: int, num_processes: int) -> Iterator[tuple[int, Rollout]]:
    """This rank's rows with their position among the rows of all ranks and parts."""
    first = 0
    for part in parts:
        num_rows = part.lengths.numel()
        yield from enumerate(part.rows, first + rank_slice(num_rows, process_index, num_processes).start)
        first += num_rows


def exchange_rows(
    chosen: list[tuple[int, Row]], num_rows: int, process_index: int, num_processes: int, gather_object: Callable
) -> list[Row]:
    """
    Give every rank its contiguous share of rows that were generated on any rank.

    Args:
        chosen (`list[tuple[int, Any]]`):
            This rank's rows with their position among those to be shared out.
        num_rows (`int`):
            Number of rows over all ranks.
        process_index (`int`), num_processes (`int`):
            This rank and the number of ranks.
        gather_object (`Callable`):
            Concatenates a list over ranks. Called once on every rank, whatever it has to send.

    Returns:
        `list`: the rows in [`rank_slice`] of this rank.
    """
    share = rank_slice(num_rows, process_index, num_processes)
    positions = range(share.start, share.stop)
    mine = {position: row for position, row in chosen if position in positions}
    if num_processes > 1:
        # Only rows that change their rank travel
        moving = [(position, row) for position, row in chosen if position not in positions]
        mine.update(item for item in gather_object(moving) if item[0] in positions)
    return [mine[position] for position in positions]


class GroupPool:
    """
    The groups of several rounds, numbered in their order.

    Args:
        parts (`list[Round]`):
            The rounds.
        num_generations (`int`):
            Completions per group.
        process_index (`int`), num_processes (`int`):
            This rank and the number of ranks.
        gather_object (`Callable`):
            Concatenates a list over ranks.
    """

    def __init__(
        self, parts: list[Round], num_generations: int, process_index: int, num_processes: int, gather_object: Callable
    ):
        self.parts = parts
        self.joined = Round.join(parts)
        self.num_generations = num_generations
        self._ranks = (process_index, num_processes)
        self._gather_object = gather_object

    def take(self, groups: torch.Tensor) -> Round:
        """The chosen groups as a round: this rank's share of their rows; called on every rank."""
        rows = self._rows(groups)
        position_of = {row: position for position, row in enumerate(rows.tolist())}
        chosen = [
            (position_of[number], row)
            for number, row in numbered_rows(self.parts, *self._ranks)
            if number in position_of
        ]
        rows = rows.to(self.joined.lengths.device)
        return Round(
            rows=exchange_rows(chosen, len(rows), *self._ranks, self._gather_object),
            rewards_per_func=self.joined.rewards_per_func[rows],
            lengths=self.joined.lengths[rows],
            truncated=self.joined.truncated[rows],
        )

    def rest(self, groups: torch.Tensor) -> list[Rollout]:
        """Rows that lie on this rank and belong to none of the groups."""
        taken = set(self._rows(groups).tolist())
        return [row for number, row in numbered_rows(self.parts, *self._ranks) if number not in taken]

    def _rows(self, groups: torch.Tensor) -> torch.Tensor:
        """Numbers of the rows of some groups, in their order."""
        return (groups.unsqueeze(1) * self.num_generations + torch.arange(self.num_generations)).flatten()
