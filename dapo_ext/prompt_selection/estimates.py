"""What is known of each prompt: discounted counts of right and wrong completions, two float32 and a counter each."""

import numpy as np


NEVER = -1


class PassRateEstimates:
    """
    Evidence on the pass rate of every prompt of a dataset, ageing as the policy moves.

    A prompt's posterior is `Beta(a0 + w * hits, b0 + w * misses)` with its prior `(a0, b0)` and the weight `w =
    age_discount^(generations since the prompt was last seen)`: what is not looked at returns to the prior, so that a
    prompt once solved comes back. When a group arrives, older evidence is discounted once more by `visit_discount`,
    since training on the prompt has moved it.

    Args:
        size (`int`):
            Prompts in the dataset.
        age_discount (`float`), visit_discount (`float`):
            Factors in (0, 1].
    """

    def __init__(self, size: int, age_discount: float, visit_discount: float):
        self.age_discount = age_discount
        self.visit_discount = visit_discount
        self.hits = np.zeros(size, dtype=np.float32)
        self.misses = np.zeros(size, dtype=np.float32)
        self.seen_at = np.full(size, NEVER, dtype=np.int32)  # generation of the last group, or NEVER

    def read(self, positions: np.ndarray, now: int) -> tuple[np.ndarray, np.ndarray]:
        """Aged hits and misses of some prompts, float64."""
        weight = self.age_discount ** (now - self.seen_at[positions]).astype(np.float64)
        return self.hits[positions] * weight, self.misses[positions] * weight

    def add(self, positions: np.ndarray, hits: np.ndarray, misses: np.ndarray, now: int) -> None:
        """Count one group for each position; a position may occur more than once."""
        distinct = np.unique(positions)
        old_hits, old_misses = self.read(distinct, now)
        self.hits[distinct] = self.visit_discount * old_hits
        self.misses[distinct] = self.visit_discount * old_misses
        np.add.at(self.hits, positions, hits.astype(np.float32))
        np.add.at(self.misses, positions, misses.astype(np.float32))
        self.seen_at[distinct] = now
