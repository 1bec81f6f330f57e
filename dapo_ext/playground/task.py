"""The playground's task: chained sums mod 10 with a scratchpad, a reward that verifies, splits that share no prompt."""

import hashlib
import itertools
import random

from datasets import Dataset

from .policy import EOS_TOKEN_ID


# Share of all prompts that falls to each split. The salt is one for which the splits are alike where prompts are few:
# of the 200 prompts with K = 2 they get 83, 57 and 60, and the teacher is right on .79 of each.
SPLIT_SHARES = {"train": 0.4, "tuning": 0.3, "held_out": 0.3}
SPLIT_SALT = "678"
ENUMERATE_FROM = 0.1  # share of a K's prompts from which on listing them all is cheaper than drawing without repeats


def stable_hash(text: str) -> int:
    r"""
    Hash a text to 64 bits, the same in every process and on every machine (unlike the built-in `hash`).

    Args:
        text (`str`):
            Text to hash.

    Returns:
        `int`:
            Uniform over 0 to 2**64 - 1.
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def split_of(prompt: str) -> str:
    r"""
    The split a prompt belongs to: a function of its text alone, which is why splits cannot overlap.

    Args:
        prompt (`str`):
            Prompt of the task.

    Returns:
        `str`:
            A key of `SPLIT_SHARES`.
    """
    quantile = stable_hash(f"{SPLIT_SALT}/{prompt}") / 2**64
    for split, share in SPLIT_SHARES.items():
        if quantile < share:
            return split
        quantile -= share
    return split


def solve(prompt: str) -> str:
    r"""
    The right answer of a prompt.

    Args:
        prompt (`str`):
            Prompt of the task, such as `"9-1-4-1="`.

    Returns:
        `str`:
            One digit, here `"3"`.
    """
    signs = (1 if operator == "+" else -1 for operator in prompt[1:-1:2])
    return str((int(prompt[0]) + sum(s * int(d) for s, d in zip(signs, prompt[2:-1:2], strict=True))) % 10)


def draw_prompt(rng: random.Random, split: str, terms: int) -> str:
    r"""
    Draw one prompt, uniform over the prompts of a split with `terms` terms.

    Args:
        rng (`random.Random`):
            Source of the draw.
        split (`str`):
            A key of `SPLIT_SHARES`.
        terms (`int`):
            Number of terms K, at least 2.

    Returns:
        `str`:
            The prompt, of `2 * terms` characters.
    """
    while True:
        chain = "".join(rng.choice("+-") + rng.choice("0123456789") for _ in range(terms - 1))
        prompt = f"{rng.choice('0123456789')}{chain}="
        if split_of(prompt) == split:
            return prompt


def make_dataset(split: str, size: int, seed: int = 0, min_terms: int = 2, max_terms: int = 10) -> Dataset:
    r"""
    Make a dataset of chained sums without duplicates.

    The number of terms K is uniform over `min_terms..max_terms`, up to rounding, for as long as each K has prompts
    left: with the default K, up to 512 prompts in every split. There are `10 * 20**(K - 1)` prompts with K terms, so
    K = 2 (200 prompts, of which `"train"` has 83) runs out first, and the longer sums share out what it lacks.

    Args:
        split (`str`):
            `"train"`, `"tuning"` or `"held_out"`. The splits are disjoint for every size and seed.
        size (`int`):
            Number of prompts.
        seed (`int`, *optional*, defaults to `0`):
            Seed of choice and order.
        min_terms (`int`, *optional*, defaults to `2`):
            Smallest number of terms.
        max_terms (`int`, *optional*, defaults to `10`):
            Largest number of terms.

    Returns:
        [`~datasets.Dataset`]:
            Columns `"prompt"` (such as `"9-1-4-1="`), `"answer"` (one digit) and `"terms"` (K), in random order.

    Raises:
        `ValueError`: If the split is unknown, the size is negative, the terms are out of order or below 2, or more
            distinct prompts are asked for than the split has.
    """
    if split not in SPLIT_SHARES:
        raise ValueError(f"Unknown split {split!r}. Choose one of {', '.join(map(repr, SPLIT_SHARES))}.")
    if size < 0:
        raise ValueError(f"size={size} is negative. Pass the number of prompts wanted.")
    if not 2 <= min_terms <= max_terms:
        raise ValueError(f"A sum needs 2 <= min_terms <= max_terms, got min_terms={min_terms}, max_terms={max_terms}.")
    rng = random.Random(f"{split}/{seed}")
    prompts: list[str] = []
    # A larger K always has more prompts, so filling from the smallest K on spreads what it lacks evenly.
    for terms in range(min_terms, max_terms + 1):
        quota = (size - len(prompts)) // (max_terms - terms + 1)
        prompts += _draw_distinct(rng, split, terms, quota)
    if len(prompts) < size:
        raise ValueError(
            f"The split {split!r} has only {len(prompts)} distinct prompts of {min_terms} to {max_terms} terms, and "
            f"{size} were asked for. Ask for fewer, or raise max_terms: each further term makes 20 times as many."
        )
    rng.shuffle(prompts)
    return Dataset.from_dict(
        {"prompt": prompts, "answer": [solve(p) for p in prompts], "terms": [len(p) // 2 for p in prompts]}
    )


def _draw_distinct(rng: random.Random, split: str, terms: int, count: int) -> list[str]:
    """Draw `count` distinct prompts of a split, or all of them if there are fewer."""
    if count < ENUMERATE_FROM * 10 * 20 ** (terms - 1):
        distinct: dict[str, None] = {}  # a set in the order of drawing
        while len(distinct) < count:
            distinct[draw_prompt(rng, split, terms)] = None
        return list(distinct)
    chains = itertools.product("0123456789", *["+-", "0123456789"] * (terms - 1))
    every = [prompt for prompt in ("".join(chain) + "=" for chain in chains) if split_of(prompt) == split]
    return rng.sample(every, min(count, len(every)))


def correctness_reward(
    completions: list[str], completion_ids: list[list[int]], answer: list[str], **kwargs
) -> list[float]:
    r"""
    Reward function that verifies: 1 for a finished completion with the right answer, else 0.

    A completion scores 1 if and only if it holds exactly one `"#"`, what follows it is exactly the right digit, and
    its last token is EOS. Completions come decoded without special tokens, hence the look at the ids.

    Args:
        completions (`list[str]`):
            Completions, decoded without special tokens.
        completion_ids (`list[list[int]]`):
            Token ids of the completions, up to and including EOS where it was generated.
        answer (`list[str]`):
            Right digit of each row.
        **kwargs:
            What else the trainer passes; ignored.

    Returns:
        `list[float]`:
            One reward per completion, 0.0 or 1.0.
    """
    return [
        float(completion.split("#")[1:] == [digit] and ids[-1:] == [EOS_TOKEN_ID])
        for completion, ids, digit in zip(completions, completion_ids, answer, strict=True)
    ]
