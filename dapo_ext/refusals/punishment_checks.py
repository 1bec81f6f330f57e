"""Values of the soft overlong punishment that cannot be honoured are refused."""

from .form import refusal
from .value_checks import is_number, is_whole


# Keys of `generation_kwargs` that would move the length limit without the punishment knowing.
LENGTH_LIMIT_KEYS = ("max_new_tokens", "max_length", "max_tokens")


def check_punishment(args) -> None:
    """
    Refuse values of the punishment, and options of the host under which it would not be what it says.

    Args:
        args (`DAPOConfig`):
            After the host's own checks.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    cache, limit = args.soft_overlong_cache, args.max_completion_length
    if not (is_number(cache) and cache >= 0):
        reason = "it is a length, a fraction of max_completion_length or a number of tokens"
        raise refusal("soft_overlong_cache", cache, reason, "give a number of at least 0; 0 turns the punishment off")
    if cache > 0 and not (is_whole(limit) and limit >= 1):
        reason = "the soft overlong punishment is measured from it"
        raise refusal("max_completion_length", limit, reason, "give a number of tokens, or set soft_overlong_cache=0")
    if cache >= 1 and cache != int(cache):
        raise refusal(
            "soft_overlong_cache",
            cache,
            "from 1 on it is a number of tokens",
            "give a whole number, or a fraction below 1",
        )
    if cache > 0 and not 1 <= args.soft_overlong_tokens <= limit:
        raise refusal(
            "soft_overlong_cache",
            cache,
            f"it comes to {args.soft_overlong_tokens} tokens where max_completion_length is {limit}",
            f"choose between 1 and {limit} tokens, or 0 for no punishment",
        )
    if not (is_number(args.soft_overlong_weight) and args.soft_overlong_weight >= 0):
        raise refusal(
            "soft_overlong_weight",
            args.soft_overlong_weight,
            "a negative weight would reward overlong completions",
            "give a finite number of at least 0",
        )
    if cache == 0 and args.soft_overlong_weight != 1:
        reason = "soft_overlong_cache=0 turns the punishment off, so nothing reads it"
        raise refusal(
            "soft_overlong_weight", args.soft_overlong_weight, reason, "leave it out, or set soft_overlong_cache"
        )
    if cache > 0 and args.multi_objective_aggregation == "normalize_then_sum":
        raise refusal(
            "multi_objective_aggregation",
            args.multi_objective_aggregation,
            "it would give the overlong punishment the full weight of a normalised reward",
            "set soft_overlong_cache=0, or multi_objective_aggregation='sum_then_normalize'",
        )
    moved = [key for key in LENGTH_LIMIT_KEYS if key in (args.generation_kwargs or {})]
    if cache > 0 and moved:
        raise refusal(
            "generation_kwargs",
            args.generation_kwargs,
            f"`{moved[0]}` moves the length limit that the overlong punishment is measured from",
            "set max_completion_length instead, or soft_overlong_cache=0",
        )
