"""The share of draws that asks no estimate: passes over the whole dataset, so that no prompt is ever lost."""

from collections.abc import Collection

import numpy as np


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
        Next positions that are not in `avoid`, without taking them.

        At most as many positions are passed over in a row as there are to avoid, so that a dataset smaller than what
        is asked for repeats itself.

        Args:
            count (`int`):
                Number of positions.
            avoid (`Collection[int]`):
                Positions to pass over.

        Returns:
            `tuple[list[int], list[int]]`: the positions, and for each the value that `taken` has once it was taken.
        """
        positions: list[int] = []
        avoid, ends = set(avoid), []
        index, passed_over = self.taken, 0
        while len(positions) < count:
            position = self._at(index)
            index += 1
            if position in avoid and passed_over < len(avoid):
                passed_over += 1
                continue
            passed_over = 0
            avoid.add(position)
            positions.append(position)
            ends.append(index)
        return positions, ends

    def _at(self, index: int) -> int:
        number, offset = divmod(index, self.size)
        if number != self._pass:
            self._open(number)
        return int(self._order[offset])

    def _open(self, number: int) -> None:
        self._pass = number
        self._order = np.random.default_rng([self.seed, EXPLORATION_KEY, number]).permutation(self.size)
