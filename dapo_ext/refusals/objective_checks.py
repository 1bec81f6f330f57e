"""Combinations of loss, clip and layout that would not be what they say are refused."""

from .form import refusal
from .value_checks import is_number


# Loss types whose per-token terms are clipped between 1 - epsilon and 1 + epsilon_high.
CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
# Loss types that average over the rows of a micro-batch, so that a dead row would dilute them.
ROW_MEAN_LOSSES = ("grpo", "dr_grpo", "sapo", "luspo")
# All that the denominators know.
LOSS_TYPES = ("dapo", "cispo", "vespo", "bnpo", *ROW_MEAN_LOSSES)


def check_objective(args) -> None:
    """
    Refuse values of the clip, and losses and layouts that cannot be honoured.

    Args:
        args (`DAPOConfig`):
            After the host's own checks.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    if args.loss_type not in LOSS_TYPES:
        raise refusal("loss_type", args.loss_type, "there is no such loss", f"choose from {LOSS_TYPES}")
    _check_clip(args)
    if args.steps_per_generation % args.gradient_accumulation_steps != 0:
        raise refusal(
            "steps_per_generation",
            args.steps_per_generation,
            f"it is no multiple of gradient_accumulation_steps={args.gradient_accumulation_steps}, so an "
            "optimizer step would span two generations and have no exact token count",
            "make it a multiple of gradient_accumulation_steps",
        )
    if args.loss_type == "dr_grpo" and args.max_completion_length is None:
        reason = "loss_type='dr_grpo' divides by it"
        raise refusal("max_completion_length", None, reason, "give a number of tokens, or use loss_type='dapo'")
    drops_rows = args.mask_truncated_completions or args.dynamic_sampling
    shrinks = args.dynamic_sampling and args.on_exhausted == "shrink"
    if args.loss_type == "bnpo" and (args.mask_truncated_completions or shrinks):
        raise refusal(
            "loss_type",
            args.loss_type,
            "it averages each micro-batch by itself, so micro-batches left without live rows would dilute it",
            "use loss_type='dapo', the same mean over the whole optimizer step, or on_exhausted='raise' and no "
            "mask_truncated_completions",
        )
    if args.importance_sampling_level == "sequence" and args.top_entropy_quantile < 1:
        raise refusal(
            "top_entropy_quantile",
            args.top_entropy_quantile,
            "under a ratio of whole sequences every token carries the gradient of all, so that none can be left out",
            "set it to 1.0, or use a ratio at token level",
        )
    entropy_bonus = args.use_adaptive_entropy or args.entropy_coef != 0
    if args.loss_type in ROW_MEAN_LOSSES and drops_rows and entropy_bonus:
        raise refusal(
            "entropy_coef",
            args.entropy_coef,
            f"loss_type={args.loss_type!r} is rescaled to the rows that are left when some are dropped, and the "
            "entropy bonus must not be",
            "use loss_type='dapo', or set dynamic_sampling=False and mask_truncated_completions=False",
        )


def _check_clip(args) -> None:
    for name in ("epsilon", "epsilon_high", "delta"):
        value = getattr(args, name)
        if not (is_number(value) and value >= 0) and (name == "epsilon" or value is not None):
            raise refusal(name, value, "the ratio is clipped with it", "give a finite number of at least 0")
    epsilon_high = args.epsilon if args.epsilon_high is None else args.epsilon_high
    if args.loss_type in CLIPPED_LOSSES and args.delta is not None and args.delta < 1 + epsilon_high:
        raise refusal(
            "delta",
            args.delta,
            f"below 1 + epsilon_high = {1 + epsilon_high:g} it cuts completions of positive advantage too",
            f"choose delta > {1 + epsilon_high:g} (the DAPO run used 10)",
        )
    if args.loss_type == "cispo" and epsilon_high < 1:
        raise refusal(
            "epsilon_high",
            epsilon_high,
            "with loss_type='cispo' it is the largest importance weight itself, not its distance from 1",
            "set epsilon_high=5.0 as ScaleRL does",
        )
