"""How many groups the next round generates."""

import math
from dataclasses import dataclass


# Weight that older groups lose with every batch: the policy moves, and with it the share of informative groups.
DISCOUNT = 0.8


@dataclass
class AcceptRate:
    """
    Discounted share of generated groups that were informative, `s = (kept + 1) / (generated + 1)`.

    The added one keeps `s` above 0, so that a run of dead rounds asks for many groups and never for infinitely many,
    and makes a fresh estimate start at 1: the first refill asks for no more than what is missing.
    """

    kept: float = 0.0
    generated: float = 0.0

    def age(self) -> None:
        """Discount what was seen so far; called once per batch."""
        self.kept *= DISCOUNT
        self.generated *= DISCOUNT

    def update(self, kept: int, generated: int) -> None:
        """Count one round."""
        self.kept += kept
        self.generated += generated

    @property
    def value(self) -> float:
        return (self.kept + 1) / (self.generated + 1)


def shared_multiple(num_processes: int, num_generations: int) -> int:
    """Smallest number of groups whose rows the ranks can share evenly: `P / gcd(P, G)`."""
    return num_processes // math.gcd(num_processes, num_generations)


def refill_size(missing: int, accept_rate: float, batch_groups: int, budget_left: int, multiple: int) -> int:
    """
    Groups to generate in the next round: about `missing / s`, at least one, at most a batch and what the budget holds.

    A round is never larger than the batch, because the batch is what the user's memory was sized for.

    Args:
        missing (`int`):
            Informative groups the batch still lacks, at least 1.
        accept_rate (`float`):
            Running share of informative groups, in (0, 1].
        batch_groups (`int`):
            Groups in a batch.
        budget_left (`int`):
            Groups that may still be generated for this batch.
        multiple (`int`):
            The size is rounded up to a multiple of this many groups, see [`shared_multiple`].

    Returns:
        `int`: a multiple of `multiple`; 0 when the budget does not hold one more.
    """
    wanted = min(max(1, math.floor(missing / accept_rate + 0.5)), batch_groups)
    wanted = math.ceil(wanted / multiple) * multiple
    return min(wanted, budget_left // multiple * multiple)
