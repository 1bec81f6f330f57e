"""Values of surplus and prompt selection that cannot be honoured are refused."""

from .refusal import refusal


SELECTIONS = ("uniform", "predictive")
COSTS = ("groups", "tokens")


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
    if staleness != int(staleness) or staleness < 1:
        raise refusal(
            "max_staleness",
            staleness,
            "it counts the generations that a group may wait, at least the next one",
            "give a whole number of at least 1, or set carry_surplus=False to let none wait",
        )
    if selection not in SELECTIONS:
        raise refusal("prompt_selection", selection, "there is no such selection", f"choose from {SELECTIONS}")
    if args.selection_cost not in COSTS:
        raise refusal("selection_cost", args.selection_cost, "there is no such cost", f"choose from {COSTS}")
    if selection == "uniform" and args.selection_cost != COSTS[0]:
        reason = "prompt_selection='uniform' weighs no cost"
        raise refusal("selection_cost", args.selection_cost, reason, "set prompt_selection='predictive'")
    if selection == "uniform" and args.pass_rate_column is not None:
        reason = "prompt_selection='uniform' asks no pass rates"
        raise refusal("pass_rate_column", args.pass_rate_column, reason, "set prompt_selection='predictive'")
    if selection == "predictive" and not args.dynamic_sampling:
        reason = "estimates are learned from the groups that dynamic sampling judges"
        raise refusal("prompt_selection", selection, reason, "set dynamic_sampling=True")
    if selection == "predictive" and not args.shuffle_dataset:
        reason = "prompt_selection='predictive' chooses the order of the prompts"
        raise refusal("shuffle_dataset", args.shuffle_dataset, reason, "set prompt_selection='uniform' to keep it")
