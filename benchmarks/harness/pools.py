"""The prompts that the playground's runs train on."""

from datasets import Dataset, concatenate_datasets

from dapo_ext.playground import make_dataset
from dapo_ext.playground.teacher import FACT_KINDS, add_digits, teacher_fact


SIZE = 640
# Share of well-known short sums in a pool, and the numbers of terms of the others
POOLS = {"mixed": (0.35, (6, 11)), "saturated": (0.77, (9, 11))}


def train_prompts(pool: str, seed: int) -> Dataset:
    """
    The 640 prompts of a run: some that a warm start solves as well as it solves anything, since they are sums of 2 or 3
    terms made of the facts its teacher knows best, and long sums.

    Groups of the short ones soon are seldom informative, those of the long ones nearly always from some point on, so
    the share of the short ones sets the accept rate: about .6 for `"mixed"`, about .33 for `"saturated"`.
    """
    if pool not in POOLS:
        raise ValueError(f"There is no pool {pool!r}: choose {' or '.join(POOLS)}.")
    share, (shortest, longest) = POOLS[pool]
    size = round(share * SIZE)
    short = make_dataset("train", 1440, seed=seed, min_terms=2, max_terms=3)
    solved = short.filter(lambda row: _is_well_known(row["prompt"])).select(range(size))
    long = make_dataset("train", SIZE - size, seed=seed, min_terms=shortest, max_terms=longest)
    return concatenate_datasets([solved, long])


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
