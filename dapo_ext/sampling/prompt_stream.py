"""Extra prompts for refills: a seeded order over the training set that depends on seed and position alone."""

import copy
import hashlib
from collections.abc import Callable, Collection, Iterator
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset

from ..unseen import draw_unseen


# Sets the stream's random numbers apart from the ones the host's sampler draws with the same seed.
STREAM_KEY = 0xDA90


def prompt_key(example: dict[str, Any]) -> str:
    """Identity of an example's prompt, equal on every rank and in every process."""
    return hashlib.blake2b(repr(example["prompt"]).encode(), digest_size=8).hexdigest()


class PromptStream:
    """
    Endless passes over a dataset, each in an order of its own.

    Pass `k` of a map-style dataset is the permutation drawn from `(seed, k)`; pass `k` of an iterable one is its
    buffered shuffle with a seed derived from `(seed, k)`. With `shuffle=False` every pass is in dataset order.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            Where the prompts come from.
        seed (`int`):
            Seed of the run.
        shuffle (`bool`):
            Whether the passes are shuffled (TRL's `shuffle_dataset`).
        key (`Callable`, *optional*, defaults to [`prompt_key`]):
            Identity of an example.

    Raises:
        ValueError: when a pass over the dataset yields nothing.
    """

    def __init__(
        self,
        dataset: Dataset | IterableDataset,
        seed: int,
        shuffle: bool = True,
        key: Callable[[dict[str, Any]], str] = prompt_key,
    ):
        self.dataset = dataset
        self.seed = seed
        self.shuffle = shuffle
        self.key = key
        self._seek(0, 0)

    def draw(self, count: int, avoid: Collection[str] = ()) -> list[dict[str, Any]]:
        """
        Next `count` examples, passing over prompts in `avoid`; see [`~dapo_ext.unseen.draw_unseen`].

        Args:
            count (`int`):
                Number of examples.
            avoid (`Collection[str]`):
                Keys of prompts that were just seen.

        Returns:
            `list[dict]`: `count` examples.
        """
        return draw_unseen(self._candidates(), count, avoid)

    def _candidates(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            example = self._next()
            yield self.key(example), example

    def state_dict(self) -> dict[str, int]:
        """Position: the pass and the number of examples taken from it."""
        return {"pass": self._pass, "offset": self._offset}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue from a position given by [`state_dict`]."""
        self._seek(state["pass"], state["offset"])

    def _seek(self, pass_index: int, offset: int) -> None:
        self._pass, self._offset = pass_index, offset
        self._iterator: Iterator[dict[str, Any]] | None = None  # opened at the first draw

    def _next(self) -> dict[str, Any]:
        if self._iterator is None:
            self._iterator = self._open()
        example = next(self._iterator, None)
        if example is None:
            if self._offset == 0:
                raise ValueError("The training dataset is empty: there are no prompts to refill the batch with.")
            self._seek(self._pass + 1, 0)
            return self._next()
        self._offset += 1
        return copy.deepcopy(example)

    def _open(self) -> Iterator[dict[str, Any]]:
        order = np.random.SeedSequence([self.seed, STREAM_KEY, self._pass])
        if isinstance(self.dataset, IterableDataset):
            seed = int(order.generate_state(1)[0])
            examples = iter(self.dataset.shuffle(seed=seed) if self.shuffle else self.dataset)
            for _ in range(self._offset):
                next(examples)
            return examples
        size = len(self.dataset)
        positions = np.random.default_rng(order).permutation(size) if self.shuffle else np.arange(size)
        return (self.dataset[int(position)] for position in positions[self._offset :])
