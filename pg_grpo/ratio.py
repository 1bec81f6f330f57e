"""The preference ratio of PG-GRPO: the exponential of a DPO-style implicit reward, as pure functions of tensors."""

import torch


# Largest absolute exponent. exp(20) = 4.9e8 times an advantage still sums and squares within float32 and bfloat16, and
# its inverse is far below any clip bound. At b_i = 0.1 it is reached 200 nats away from the policy that generated.
EXPONENT_BOUND = 20.0


def sequence_exponents(lengths: torch.Tensor, pg_beta: float, pg_length_exponent: float) -> torch.Tensor:
    r"""
    Exponent of each completion's ratio, `b_i = pg_beta * L_i^-alpha`.

    `alpha = 0` is the method as proposed, `alpha = 1` with `pg_beta = 1` is GSPO
    (https://huggingface.co/papers/2507.18071, equation 7), `alpha = 0` with `pg_beta = 1` the plain sequence ratio.

    Args:
        lengths (`torch.Tensor` of shape `(B,)`):
            Tokens of each completion that count, `L_i = sum_t m_it`. A completion without any is taken as one token
            long; it has no loss whatever its exponent.
        pg_beta (`float`):
            Exponent before length scaling, above 0.
        pg_length_exponent (`float`):
            `alpha`, from 0 to 1.

    Returns:
        `torch.Tensor` of shape `(B,)`, above 0.
    """
    return pg_beta * lengths.clamp(min=1).pow(-pg_length_exponent)


def bound_exponent(exponent: torch.Tensor) -> torch.Tensor:
    r"""
    Keep an exponent within `+-EXPONENT_BOUND`; beyond it the gradient is zero.

    What that does to `-min(p * A, clip(p) * A)`: for `A > 0` the clip has ended the gradient long before the upper
    bound, and below the lower one it was `b * p <= b * exp(-20)`. For `A < 0` the upper bound is an implicit dual clip:
    a completion whose ratio has grown beyond `exp(20)` no longer pulls. TRL's `delta` sets such a clip lower.

    Args:
        exponent (`torch.Tensor` of any shape):
            Logarithm of the ratio.

    Returns:
        `torch.Tensor` of the same shape.
    """
    return exponent.clamp(-EXPONENT_BOUND, EXPONENT_BOUND)


def sequence_log_ratio(
    per_token_logps: torch.Tensor,
    old_per_token_logps: torch.Tensor,
    mask: torch.Tensor,
    pg_beta: float,
    pg_length_exponent: float,
) -> torch.Tensor:
    r"""
    Logarithm of the preference ratio of each completion, `log p_i = b_i D_i`.

    With `D_i = sum_t m_it (log pi(y_it) - log pi_old(y_it))` and `b_i` from [`sequence_exponents`], `p_i` is the
    exponential of DPO's implicit reward `beta * log(pi / pi_ref)` (https://huggingface.co/papers/2305.18290, section 5)
    with the policy that generated in the place of the reference. Its gradient is `grad p_i = b_i p_i grad D_i`. The sum
    is formed in float32 at least and bounded by [`bound_exponent`].

    Args:
        per_token_logps (`torch.Tensor` of shape `(B, T)`):
            Log-probabilities under the policy being trained, in nats.
        old_per_token_logps (`torch.Tensor` of shape `(B, T)`):
            Log-probabilities under the policy that generated.
        mask (`torch.Tensor` of shape `(B, T)`):
            Loss mask, 1 for tokens that count. What stands at other positions is never read.
        pg_beta (`float`), pg_length_exponent (`float`):
            As in [`sequence_exponents`].

    Returns:
        `torch.Tensor` of shape `(B, 1)`, float32 or the wider of the inputs' types.
    """
    difference = masked_difference(per_token_logps, old_per_token_logps, mask)
    exponents = sequence_exponents(mask.sum(dim=1).to(difference), pg_beta, pg_length_exponent)
    return bound_exponent(exponents.unsqueeze(1) * difference.sum(dim=1, keepdim=True))


def token_log_ratio(
    per_token_logps: torch.Tensor, old_per_token_logps: torch.Tensor, mask: torch.Tensor, pg_beta: float
) -> torch.Tensor:
    r"""
    Logarithm of the preference ratio of each token, `log p_it = pg_beta * d_it`; `pg_beta = 1` is GRPO's token ratio.

    Args:
        per_token_logps (`torch.Tensor` of shape `(B, T)`), old_per_token_logps (`torch.Tensor` of shape `(B, T)`):
            As in [`sequence_log_ratio`].
        mask (`torch.Tensor` of shape `(B, T)`):
            Loss mask.
        pg_beta (`float`):
            Exponent, above 0.

    Returns:
        `torch.Tensor` of shape `(B, T)`, 0 where the mask is 0, float32 or the wider of the inputs' types.
    """
    return bound_exponent(pg_beta * masked_difference(per_token_logps, old_per_token_logps, mask))


def plain_log_ratio_bounds(
    epsilon_low: float, epsilon_high: float, exponents: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""
    Where the clip of `p` to `[1 - epsilon_low, 1 + epsilon_high]` lies in the plain log-ratio `D = log(pi / pi_old)`.

    `p = exp(b D)` is within its bounds if and only if `log(1 - epsilon_low) / b <= D <= log(1 + epsilon_high) / b`,
    that is, if the plain ratio is within `[(1 - epsilon_low)^(1/b), (1 + epsilon_high)^(1/b)]`. The logarithm is given
    because at `b = 1/8000` the upper bound itself is beyond every floating-point type. At `b = 0.1` and an epsilon of
    0.2 the bounds are -2.23 and +1.82 nats.

    Args:
        epsilon_low (`float`), epsilon_high (`float`):
            Distances of the clip bounds from 1.
        exponents (`torch.Tensor` of any shape):
            `b`, above 0.

    Returns:
        `tuple[torch.Tensor, torch.Tensor]` of the shape of `exponents`, in nats; the lower one is -inf from
        `epsilon_low = 1` on, where nothing is clipped below.
    """
    low = torch.as_tensor(1 - epsilon_low).clamp(min=0).log().to(exponents)
    high = torch.as_tensor(1 + epsilon_high).log().to(exponents)
    return low / exponents, high / exponents


def masked_difference(
    per_token_logps: torch.Tensor, old_per_token_logps: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """`d_it`, 0 where the mask is 0 whatever stands there, in float32 at least."""
    dtype = torch.promote_types(per_token_logps.dtype, torch.float32)
    return (per_token_logps.to(dtype) - old_per_token_logps.to(dtype)).masked_fill(mask == 0, 0)
