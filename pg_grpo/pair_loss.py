"""The offline PG loss on preference pairs: a pair is a group of two with rewards 1 and 0, and pi_old is pi_ref."""

from dataclasses import dataclass
from enum import IntEnum

import torch

from .ratio import EXPONENT_BOUND, bound_exponent, sequence_exponents


class PairState(IntEnum):
    """What is left to learn from a pair."""

    LIVE = 0  # at least one side has a gradient
    DONE = 1  # the chosen ratio is above its bound and the rejected one below its own
    STUCK = 2  # no gradient, but a side was cut off elsewhere: rejected above `delta`, or an exponent beyond its bound


@dataclass(frozen=True)
class PairObjective:
    """
    The offline PG loss of a pair.

    With `D = log pi(y|x) - log pi_ref(y|x)` summed over the `L` tokens of a completion, `b = pg_beta * L^-alpha` and
    `p = exp(b * D)`, advantages +1 for the chosen (w) and -1 for the rejected (l) completion:

    `l_w = -min(p_w, clip(p_w, 1 - epsilon, 1 + epsilon_high)) = -min(p_w, 1 + epsilon_high)`

    `l_l = max(p_l, clip(p_l, 1 - epsilon, 1 + epsilon_high)) = max(min(p_l, delta), 1 - epsilon)`

    A chosen completion pulls until `p_w` reaches `1 + epsilon_high`, a rejected one until `p_l` falls to `1 - epsilon`;
    a rejected one whose `p_l` grows above 1 pulls ever harder unless `delta` caps it. At `pi = pi_ref` with alpha 0 and
    the sequence mean the gradient is DPO's, `-pg_beta / 2 (grad log pi_w - grad log pi_l)`
    (https://huggingface.co/papers/2305.18290, equation 7 at a margin of zero).

    Attributes:
        pg_beta (`float`):
            Exponent of the ratio, above 0, in 1/nat.
        pg_length_exponent (`float`):
            alpha in [0, 1].
        epsilon (`float`), epsilon_high (`float`):
            Lower and upper distance of the clip range from 1, above 0.
        delta (`float` or `None`):
            Largest `p_l` that pulls, above 1.
        aggregation (`str`):
            `"sequence"`: every completion counts once. `"token"`: every completion counts as often as it has tokens.
    """

    pg_beta: float = 0.1
    pg_length_exponent: float = 0.0
    epsilon: float = 0.2
    epsilon_high: float = 0.2
    delta: float | None = None
    aggregation: str = "sequence"

    def exponents(self, lengths: torch.Tensor) -> torch.Tensor:
        """`b` of [`~pg_grpo.ratio.sequence_exponents`], for floating-point lengths of any shape."""
        return sequence_exponents(lengths, self.pg_beta, self.pg_length_exponent)

    def weights(self, lengths: torch.Tensor) -> torch.Tensor:
        """How often each completion counts in the mean: `L` times, or once. Any shape."""
        return lengths if self.aggregation == "token" else torch.ones_like(lengths)

    def terms(self, log_ratios: torch.Tensor, lengths: torch.Tensor) -> "PairTerms":
        """
        Evaluate both sides of every pair.

        Args:
            log_ratios (`torch.Tensor` of shape `(2, B)`):
                `D_w` in the first row and `D_l` in the second, in nats.
            lengths (`torch.Tensor` of shape `(2, B)`):
                Tokens `L` of each completion.

        Returns:
            [`PairTerms`]
        """
        ratios = bound_exponent(self._log_preference_ratios(log_ratios, lengths)).exp()
        chosen, rejected = ratios
        capped = rejected if self.delta is None else rejected.clamp(max=self.delta)
        losses = torch.stack([-chosen.clamp(max=1 + self.epsilon_high), capped.clamp(min=1 - self.epsilon)])
        return PairTerms(ratios=ratios.detach(), losses=losses, weights=self.weights(lengths).to(losses))

    def judge(self, log_ratios: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """
        Say of every pair whether the loss still has a gradient, and if not, why.

        Args:
            log_ratios (`torch.Tensor` of shape `(2, B)`), lengths (`torch.Tensor` of shape `(2, B)`):
                As in [`terms`].

        Returns:
            `torch.Tensor` of shape `(B,)` with [`PairState`] values.
        """
        exponents = self._log_preference_ratios(log_ratios, lengths)
        chosen, rejected = bound_exponent(exponents).exp()
        above, below = chosen > 1 + self.epsilon_high, rejected < 1 - self.epsilon
        capped = torch.zeros_like(below) if self.delta is None else rejected > self.delta
        pulls = ~torch.stack([above, below | capped]) & (exponents.abs() <= EXPONENT_BOUND)
        states = torch.where(above & below, int(PairState.DONE), int(PairState.STUCK))
        return states.masked_fill(pulls.any(dim=0), int(PairState.LIVE))

    def _log_preference_ratios(self, log_ratios: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """`log p = b * D`, in float32 at least."""
        dtype = torch.promote_types(log_ratios.dtype, torch.float32)
        return self.exponents(lengths.to(dtype)) * log_ratios.to(dtype)


@dataclass(frozen=True)
class PairTerms:
    """Both sides of `B` pairs: chosen in row 0, rejected in row 1."""

    ratios: torch.Tensor  # (2, B), p without its gradient
    losses: torch.Tensor  # (2, B), l_w and l_l
    weights: torch.Tensor  # (2, B), how often a completion counts

    def mean(self, live: torch.Tensor | None = None, total_weight: torch.Tensor | None = None) -> torch.Tensor:
        """
        `sum_i w_i l_i / sum_i w_i` over the completions of live pairs.

        Args:
            live (`torch.Tensor` of shape `(B,)`, *optional*):
                Pairs that count; all of them if not given.
            total_weight (`torch.Tensor`, *optional*):
                The denominator, where the mean is taken over more than these pairs.

        Returns:
            `torch.Tensor`: a scalar.
        """
        weights = self.weights if live is None else self.weights * live.to(self.weights)
        total_weight = weights.sum() if total_weight is None else total_weight
        return (weights * self.losses).sum() / total_weight
