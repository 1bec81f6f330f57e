"""The exponent of the preference ratio, checked for both of its configurations."""

from dapo_ext.refusals import refusal
from dapo_ext.refusals.value_checks import is_number


# With a larger one the clip range is narrower than the rounding of a completion's log-probability in float32
LARGEST_PG_BETA = 1e4


def check_exponent(args) -> None:
    """
    Refuse values of `pg_beta` and `pg_length_exponent` with which `b_i = pg_beta * L_i^-alpha` is no exponent.

    Args:
        args (`PGGRPOConfig` or `PGDPOConfig`):
            The configuration.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    if not (is_number(args.pg_beta) and 0 < args.pg_beta <= LARGEST_PG_BETA):
        raise refusal(
            "pg_beta",
            args.pg_beta,
            "the ratio exp(pg_beta * D) must grow with the policy's probability, and by more than rounding",
            f"give a number above 0 and at most {LARGEST_PG_BETA:g}, such as 0.1",
        )
    if not (is_number(args.pg_length_exponent) and 0 <= args.pg_length_exponent <= 1):
        raise refusal(
            "pg_length_exponent",
            args.pg_length_exponent,
            "it runs from the sum over the tokens of a completion (0) to their mean (1)",
            "give a number from 0 to 1",
        )
