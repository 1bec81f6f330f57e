"""Token weights that would not be what their normalization says are refused, by configuration and trainer."""

from .form import refusal


# Normalizations with the losses whose own denominator they fit: see token_weights.py
NORMALIZATIONS = {"batch": ("dapo", "cispo", "vespo", "dr_grpo"), "completion": ("grpo", "sapo")}


def check_weighting(args) -> None:
    """
    Refuse values of the fields of token weighting, and losses that do not fit them.

    Args:
        args (`DAPOConfig`):
            After the host's own checks.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    if args.token_weighting not in ("uniform", "entropy"):
        raise refusal(
            "token_weighting",
            args.token_weighting,
            "there is no such weighting",
            "choose 'uniform' or 'entropy', or pass the trainer a token_weight_fn",
        )
    if args.token_weight_normalization not in tuple(NORMALIZATIONS):
        raise refusal(
            "token_weight_normalization",
            args.token_weight_normalization,
            "there is no such normalization",
            "choose 'batch' or 'completion'",
        )
    if args.token_weighting != "uniform":
        check_weighted_loss(args)


def check_unweighted(args) -> None:
    """
    Refuse a normalization of weights that there are none of.

    Args:
        args (`DAPOConfig`):
            Of a run in which no token is weighted, which only the trainer knows.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    if args.token_weight_normalization != "batch":
        raise refusal(
            "token_weight_normalization",
            args.token_weight_normalization,
            "no tokens are weighted, so nothing reads it",
            "set token_weighting='entropy', pass the trainer a token_weight_fn, or leave it out",
        )


def check_weighted_loss(args) -> None:
    """
    Refuse losses in which tokens that do not weigh the same would not be averaged as `token_weight_normalization` says.

    Args:
        args (`DAPOConfig`):
            Of a run in which tokens are weighted.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    normalization = args.token_weight_normalization
    losses = NORMALIZATIONS[normalization]
    if args.loss_type not in losses:
        raise refusal(
            "loss_type",
            args.loss_type,
            f"its denominator is not the sum of weights with token_weight_normalization={normalization!r}",
            f"choose from {losses}, or see token_weight_normalization for the losses of the other one",
        )
    if normalization == "completion" and args.importance_sampling_level == "sequence":
        raise refusal(
            "token_weight_normalization",
            normalization,
            "weights that sum to 1 over a completion change nothing where all its tokens share one ratio",
            "use a ratio at token level, or 'batch' with loss_type='dapo'",
        )
