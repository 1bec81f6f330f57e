"""Draw from an endless order of prompts, passing over those just seen."""

from collections.abc import Collection, Hashable, Iterator
from typing import TypeVar


Drawn = TypeVar("Drawn")


def draw_unseen(candidates: Iterator[tuple[Hashable, Drawn]], count: int, avoid: Collection[Hashable]) -> list[Drawn]:
    """
    The next `count` candidates whose keys are not in `avoid` and were not drawn by this call.

    At most as many candidates are passed over in a row as there are keys to avoid, so that a dataset smaller than what
    is asked for repeats itself instead of stalling.

    Args:
        candidates (`Iterator[tuple]`):
            Endless pairs of a prompt's key and what is to be drawn; only as many are consumed as are needed.
        count (`int`):
            Number to draw.
        avoid (`Collection`):
            Keys to pass over.

    Returns:
        `list`: `count` items.
    """
    avoid = set(avoid)
    drawn: list[Drawn] = []
    passed_over = 0
    while len(drawn) < count:
        key, candidate = next(candidates)
        if key in avoid and passed_over < len(avoid):
            passed_over += 1
            continue
        passed_over = 0
        avoid.add(key)
        drawn.append(candidate)
    return drawn
