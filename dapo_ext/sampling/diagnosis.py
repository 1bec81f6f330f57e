"""Why a batch found too few informative groups, in words a user can act on."""

from dataclasses import dataclass

from .early_end import NothingToTrainOn


class GenerationBudgetExhausted(RuntimeError):
    """The generation budget was spent before the batch held enough informative groups (`on_exhausted="raise"`)."""


class NoInformativeGroups(NothingToTrainOn):
    """The whole budget gave not one informative group: nothing to train on, and the weights must not move."""


@dataclass
class DeadGroups:
    """Counts of the groups that were generated for one batch and gave no gradient, by cause."""

    all_wrong: int = 0  # equal rewards at the low end of what the run has seen
    all_correct: int = 0  # equal rewards at the high end
    one_value: int = 0  # equal rewards elsewhere, or no other value was ever seen
    unscored: int = 0  # fewer than two completions with a reward that count

    @property
    def total(self) -> int:
        return self.all_wrong + self.all_correct + self.one_value + self.unscored


def diagnose(dead: DeadGroups, informative: int, wanted: int, generated: int, budget: float) -> str:
    """
    Say what was generated and which of four causes is behind it.

    Args:
        dead ([`DeadGroups`]):
            What the dead groups were.
        informative (`int`), wanted (`int`), generated (`int`):
            Groups found, groups of a batch, groups generated.
        budget (`float`):
            The `generation_budget` that was spent.

    Returns:
        `str`: facts, cause and remedy.
    """
    facts = (
        f"{generated} groups were generated (generation_budget={budget:g}) and {informative} of the {wanted} wanted "
        f"were informative; of the dead ones {dead.all_wrong} were all wrong, {dead.all_correct} all correct, "
        f"{dead.one_value} had one other value throughout and {dead.unscored} had fewer than two scored completions."
    )
    causes = {
        "all_wrong": "The prompts are too hard for the policy: add easier ones, warm it up, or raise num_generations.",
        "all_correct": "The prompts are too easy for the policy: add harder ones.",
        "one_value": "The deciding reward returns one value: check the reward function and filter_rewards.",
        "unscored": "The deciding reward functions returned None or NaN, or the completions were truncated and "
        "filtered: check the reward functions and max_completion_length.",
    }
    worst = max(causes, key=lambda cause: getattr(dead, cause))
    return f"{facts} {causes[worst]}"
