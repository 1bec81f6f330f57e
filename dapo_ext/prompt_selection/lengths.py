"""What a group of a prompt will cost beside the groups of others: completions are paid for by the token."""

import numpy as np


# Weight of a prompt's newest group in its running mean length
NEWEST = 0.5


class CompletionLengths:
    """
    Running mean length of each prompt's completions, one float32 each.

    Args:
        size (`int`):
            Prompts in the dataset.
        token_share (`float`):
            Share of a group's cost that grows with its tokens, in [0, 1]; the rest is the same for every group.

    Attributes:
        mean_lengths (`np.ndarray` of shape `(size,)`, float32):
            In tokens; NaN for a prompt that was never generated from.
    """

    def __init__(self, size: int, token_share: float):
        self.token_share = token_share
        self.mean_lengths = np.full(size, np.nan, dtype=np.float32)

    def learn(self, positions: np.ndarray, lengths: np.ndarray) -> None:
        """Take in the mean completion length of some groups, in order; a position may occur more than once."""
        for position, length in zip(positions, lengths, strict=True):
            known = self.mean_lengths[position]
            self.mean_lengths[position] = length if np.isnan(known) else known + NEWEST * (length - known)

    def relative_cost(self, positions: np.ndarray) -> np.ndarray:
        r"""
        Cost of a group of each of some prompts, where one of mean length costs 1.

            cost_i = (1 - s) + s * length_i / mean_j length_j

        with s the `token_share` and the mean over those prompts of `positions` that have been seen, whose lengths the
        others are taken to have.

        Args:
            positions (`np.ndarray` of shape `(n,)`):
                Prompts.

        Returns:
            `np.ndarray` of shape `(n,)`, float64, positive.
        """
        lengths = self.mean_lengths[positions].astype(np.float64)
        unseen = np.isnan(lengths)
        if unseen.all():
            return np.ones(len(positions))
        mean = lengths[~unseen].mean()
        return 1 - self.token_share + self.token_share * np.where(unseen, 1.0, lengths / mean)
