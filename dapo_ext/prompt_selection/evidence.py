"""What was seen of each prompt: discounted successes and failures, two float32 and a counter each."""

import numpy as np


NEVER = -1


class Evidence:
    """
    Successes and failures of every prompt of a dataset, ageing as the policy moves.

    With the prior `(a0, b0)` of a prompt its posterior is `Beta(a0 + w * hits, b0 + w * misses)`, `w = age_discount **
    (generations since it was last seen)`: what nobody looks at returns to the prior, so that a prompt once solved
    comes back. When a group arrives, what was known before is discounted once more by `visit_discount`.

    Args:
        size (`int`):
            Prompts in the dataset.
        age_discount (`float`), visit_discount (`float`):
            Factors in (0, 1].

    Attributes:
        hits (`np.ndarray` of shape `(size,)`, float32), misses (`np.ndarray` of shape `(size,)`, float32):
            As of the generation in `seen_at`.
        seen_at (`np.ndarray` of shape `(size,)`, int32):
            Generation of the prompt's last group, or `NEVER`.
        seen (`int`):
            Prompts seen at least once.
    """

    def __init__(self, size: int, age_discount: float, visit_discount: float):
        self.age_discount = age_discount
        self.visit_discount = visit_discount
        self.hits = np.zeros(size, dtype=np.float32)
        self.misses = np.zeros(size, dtype=np.float32)
        self.seen_at = np.full(size, NEVER, dtype=np.int32)
        self.seen = 0

    def read(self, positions: np.ndarray, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Aged hits and misses of some prompts, float64, each of the shape of `positions`."""
        weight = self.age_discount ** (now - self.seen_at[positions]).astype(np.float64)
        return self.hits[positions] * weight, self.misses[positions] * weight

    def ages(self, positions: np.ndarray, now: int) -> np.ndarray:
        """Generations since some prompts were last seen; 0 for those that never were."""
        seen_at = self.seen_at[positions]
        return np.where(seen_at == NEVER, 0, now - seen_at)

    def replace(self, positions: np.ndarray, hits: np.ndarray, misses: np.ndarray) -> None:
        """Write what is known of some distinct prompts by now, discounted for the groups that are about to be added."""
        self.hits[positions] = self.visit_discount * hits
        self.misses[positions] = self.visit_discount * misses

    def add(self, positions: np.ndarray, hits: np.ndarray, misses: np.ndarray, now: int) -> None:
        """Count one group for each position; a position may occur more than once."""
        np.add.at(self.hits, positions, hits.astype(np.float32))
        np.add.at(self.misses, positions, misses.astype(np.float32))
        distinct = np.unique(positions)
        self.seen += int((self.seen_at[distinct] == NEVER).sum())
        self.seen_at[distinct] = now

    def array_state(self) -> dict[str, np.ndarray]:
        """The state as arrays."""
        return {"hits": self.hits, "misses": self.misses, "seen_at": self.seen_at}

    def load_array_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Continue from [`array_state`]."""
        self.hits, self.misses, self.seen_at = (arrays[name].copy() for name in ("hits", "misses", "seen_at"))
        self.seen = int((self.seen_at != NEVER).sum())
