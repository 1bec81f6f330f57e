"""Values of dynamic sampling, surplus and prompt selection that cannot be honoured are refused."""

from typing import Any

from .form import refusal
from .value_checks import check_flags, check_unread, is_number, is_whole


SELECTIONS = ("uniform", "predictive")
COSTS = ("groups", "tokens")
LARGEST_BUDGET = 1000
LARGEST_STALENESS = 1000
# Fields that only dynamic sampling reads
SAMPLING_FIELDS = ("filter_rewards", "filter_tolerance", "generation_budget", "on_exhausted", "max_staleness")


def check_sampling(args) -> None:
    """
    Refuse values of the fields of dynamic sampling, and those that nothing would read.

    Args:
        args (`DAPOConfig`):
            After the host's own checks.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    check_flags(args, ("dynamic_sampling", "carry_surplus"))
    if args.filter_rewards is not None and not _are_names(args.filter_rewards):
        raise refusal(
            "filter_rewards",
            args.filter_rewards,
            "it is a list that names at least one reward function, none of them twice",
            "give a list such as ['accuracy_reward'], or leave it None for all of them",
        )
    if not (is_number(args.filter_tolerance) and args.filter_tolerance >= 0):
        raise refusal(
            "filter_tolerance",
            args.filter_tolerance,
            "it is compared with max - min of a group's rewards, which is never negative",
            "give a finite number of at least 0, such as 1e-6",
        )
    if not (is_number(args.generation_budget) and 1 <= args.generation_budget <= LARGEST_BUDGET):
        raise refusal(
            "generation_budget",
            args.generation_budget,
            "it is a multiple of the batch's groups: the first round generates the batch once, and when nothing is "
            "informative so many batches are generated before anyone is told",
            f"give a number from 1.0 to {LARGEST_BUDGET}; the paper's run allows about 10",
        )
    if args.on_exhausted not in ("shrink", "raise"):
        raise refusal(
            "on_exhausted",
            args.on_exhausted,
            "there is no such policy",
            "choose 'shrink' or 'raise'",
        )
    if not args.dynamic_sampling:
        check_unread(args, SAMPLING_FIELDS, "dynamic_sampling")
    if not args.carry_surplus:
        check_unread(args, ("max_staleness",), "carry_surplus")


def check_selection(args) -> None:
    """
    Refuse values of the fields of surplus and prompt selection, and what predictive selection would ignore.

    Args:
        args (`DAPOConfig`):
            After the host's own checks.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    staleness, selection = args.max_staleness, args.prompt_selection
    if not (is_whole(staleness) and 1 <= staleness <= LARGEST_STALENESS):
        raise refusal(
            "max_staleness",
            staleness,
            "it counts the generations that a group may wait, at least the next one",
            f"give a whole number from 1 to {LARGEST_STALENESS}, or set carry_surplus=False to let none wait",
        )
    if selection not in SELECTIONS:
        raise refusal("prompt_selection", selection, "there is no such selection", f"choose from {SELECTIONS}")
    column = args.pass_rate_column
    if column is not None and not (isinstance(column, str) and column):
        reason = "it is the name of a column of the dataset"
        raise refusal("pass_rate_column", column, reason, "give its name, or leave it None")
    if args.selection_cost not in COSTS:
        raise refusal("selection_cost", args.selection_cost, "there is no such cost", f"choose from {COSTS}")
    if selection == "uniform" and args.selection_cost != COSTS[0]:
        reason = "prompt_selection='uniform' weighs no cost"
        raise refusal("selection_cost", args.selection_cost, reason, "set prompt_selection='predictive'")
    if selection == "uniform" and column is not None:
        reason = "prompt_selection='uniform' asks no pass rates"
        raise refusal("pass_rate_column", column, reason, "set prompt_selection='predictive'")
    if selection == "predictive" and not args.dynamic_sampling:
        reason = "estimates are learned from the groups that dynamic sampling judges"
        raise refusal("prompt_selection", selection, reason, "set dynamic_sampling=True")
    if selection == "predictive" and not args.shuffle_dataset:
        reason = "prompt_selection='predictive' chooses the order of the prompts"
        raise refusal("shuffle_dataset", args.shuffle_dataset, reason, "set prompt_selection='uniform' to keep it")


def _are_names(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(name, str) and name for name in value)
        and len(set(value)) == len(value)
    )
