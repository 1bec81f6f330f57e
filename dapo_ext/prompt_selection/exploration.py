"""The share of draws that ignores the estimates: passes over the whole dataset, so that no prompt is ever lost."""

import itertools
from collections.abc import Collection, Iterator

import numpy as np

from ..unseen import draw_unseen


EXPLORATION_KEY = 0xE4B1  # sets these random numbers apart from others drawn with the same seed


class ExplorationPass:
    """
    Endless passes over the positions of a dataset, each a permutation drawn from `(seed, pass)`.

    Args:
        size (`int`):
            Prompts in the dataset.
        seed (`int`):
            Seed of the run.
    """

    def __init__(self, size: int, seed: int):
        self.size = size
        self.seed = seed
        self.taken = 0  # positions taken since the start, those passed over included
        self._open(0)

    def upcoming(self, count: int, avoid: Collection[int]) -> tuple[list[int], list[int]]:
        """
        Next positions that are not in `avoid`, without taking them; see [`~dapo_ext.unseen.draw_unseen`].

        Args:
            count (`int`):
                Number of positions.
            avoid (`Collection[int]`):
                Positions to pass over.

        Returns:
            `tuple[list[int], list[int]]`: the positions, and for each the value that `taken` has once it was taken.
        """
        drawn = draw_unseen(self._candidates(), count, avoid)
        return [position for position, _ in drawn], [end for _, end in drawn]

    def _candidates(self) -> Iterator[tuple[int, tuple[int, int]]]:
        for index in itertools.count(self.taken):
            position = self._at(index)
            yield position, (position, index + 1)

    def _at(self, index: int) -> int:
        number, offset = divmod(index, self.size)
        if number != self._pass:
            self._open(number)
        return int(self._order[offset])

    def _open(self, number: int) -> None:
        self._pass = number
        self._order = np.random.default_rng([self.seed, EXPLORATION_KEY, number]).permutation(self.size)
