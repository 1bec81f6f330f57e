"""The imperfect teacher: writes the completions of the warm start, with errors that training can unlearn."""

import itertools
import random

from .task import stable_hash


# (share of the facts, probability that the teacher gets them right): .78 on the average.
FACT_KINDS = ((0.60, 0.97), (0.25, 0.70), (0.15, 0.15))
# What a wrong answer is too high by. All errors point the same way, so that they seldom cancel within a completion.
ERRORS = (1, 2)
FACT_SALT = "699"  # one with which the kinds get about their shares: .61, .26 and .13


def add_digits(operator: str, left: int, right: int) -> int:
    r"""
    The right answer of a fact: `left + right` or `left - right`, mod 10.

    Args:
        operator (`str`):
            `"+"` or `"-"`.
        left (`int`):
            Running result, 0 to 9.
        right (`int`):
            Operand, 0 to 9.

    Returns:
        `int`:
            0 to 9.
    """
    return (left + right if operator == "+" else left - right) % 10


def teacher_fact(operator: str, left: int, right: int) -> tuple[float, int]:
    r"""
    What the teacher makes of one of the 200 facts, fixed for ever by a hash of the fact.

    Args:
        operator (`str`):
            `"+"` or `"-"`.
        left (`int`):
            Running result, 0 to 9.
        right (`int`):
            Operand, 0 to 9.

    Returns:
        `tuple[float, int]`:
            The probability that the teacher gets the fact right, one of `FACT_KINDS`, and its one wrong answer.
    """
    fact = f"{FACT_SALT}/{left}{operator}{right}"
    error = ERRORS[stable_hash(f"{fact}/error") % len(ERRORS)]
    quantile = stable_hash(fact) / 2**64
    bounds = itertools.accumulate(share for share, _ in FACT_KINDS)
    probability = next(p for bound, (_, p) in zip(bounds, FACT_KINDS, strict=True) if quantile < bound)
    return probability, (add_digits(operator, left, right) + error) % 10


def teacher_completion(prompt: str, rng: random.Random, redo_rate: float = 0.15) -> str:
    r"""
    Write one completion the way the teacher does: step by step, following its own running result.

    Each step repeats operator and operand and gives the running result mod 10. A fact the teacher gets wrong it gets
    wrong in one way only, see [`teacher_fact`]. With probability `redo_rate` a step is written again after `"?"`, with
    a fresh draw that counts; a step is redone once at most. Redoing leaves the accuracy alone and spreads the lengths.

    Args:
        prompt (`str`):
            Prompt of the task, such as `"9-1-4-1="`.
        rng (`random.Random`):
            Source of the errors and redos.
        redo_rate (`float`, *optional*, defaults to `0.15`):
            Probability that a step is redone.

    Returns:
        `str`:
            The completion without the EOS token, such as `"-1:8-4:5?-4:4-1:3#3"`.
    """
    result, text = int(prompt[0]), ""
    for operator, operand in zip(prompt[1:-1:2], prompt[2:-1:2], strict=True):
        attempts = [_step(result, operator, operand, rng)]
        if rng.random() < redo_rate:
            attempts.append(_step(result, operator, operand, rng))
        text += "?".join(f"{operator}{operand}:{attempt}" for attempt in attempts)
        result = attempts[-1]
    return f"{text}#{result}"


def _step(result: int, operator: str, operand: str, rng: random.Random) -> int:
    fact = (operator, result, int(operand))
    probability, wrong_answer = teacher_fact(*fact)
    return add_digits(*fact) if rng.random() < probability else wrong_answer
