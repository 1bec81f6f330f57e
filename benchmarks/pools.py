"""The prompts that the playground's runs train on."""

from datasets import Dataset, concatenate_datasets

from dapo_ext.playground import make_dataset
from dapo_ext.playground.teacher import FACT_KINDS, add_digits, teacher_fact


SOLVED, HARD = 480, 160  # prompts of the saturated pool


def train_prompts(pool: str, seed: int) -> Dataset:
    """
    Prompts of a run.

    - `"mixed"`: 4,096 with 2 to 10 terms, more than a run uses.
    - `"saturated"`: 640, three quarters of which a warm start solves as well as it solves anything, since they are
      sums of 2 or 3 terms made of the facts its teacher knows best; one quarter are sums of 9 to 11 terms.
    """
    if pool == "mixed":
        return make_dataset("train", 4096, seed=seed)
    if pool == "saturated":
        short = make_dataset("train", 3 * SOLVED, seed=seed, min_terms=2, max_terms=3)
        solved = short.filter(lambda row: _is_well_known(row["prompt"])).select(range(SOLVED))
        return concatenate_datasets([solved, make_dataset("train", HARD, seed=seed, min_terms=9, max_terms=11)])
    raise ValueError(f"There is no pool {pool!r}.")


def _is_well_known(prompt: str) -> bool:
    """Whether the teacher gets every fact on the right way through a sum as often as it gets any."""
    best = max(probability for _, probability in FACT_KINDS)
    result = int(prompt[0])
    for operator, operand in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        fact = (operator, result, int(operand))
        if teacher_fact(*fact)[0] < best:
            return False
        result = add_digits(*fact)
    return True
