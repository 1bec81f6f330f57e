"""`python -m benchmarks.recipes.prepare NAME --out FILE`: a published dataset as the recipe of its name wants it."""

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple

from datasets import Dataset

from benchmarks.recipes.countdown import countdown_rows
from benchmarks.recipes.math_data import load_rows, math_rows


class Source(NamedTuple):
    """A dataset and what makes rows of it."""

    name: str  # on the Hub
    config: str | None
    split: str
    make: Callable[[Dataset], Dataset]


def distinct_math_rows(rows: Dataset) -> Dataset:
    """[`math_rows`] without repeated prompts: the Hub's DAPO-Math-17k repeats its 17,398 problems a hundred times."""
    return math_rows(_distinct(rows))


def _distinct(rows: Dataset) -> Dataset:
    seen: set[str] = set()
    kept = []
    for index, prompt in enumerate(rows["prompt"]):
        text = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        if text not in seen:
            seen.add(text)
            kept.append(index)
    return rows.select(kept)


SOURCES = {
    "gsm8k": Source("openai/gsm8k", "main", "train", math_rows),
    "dapo_math": Source("BytedTsinghua-SIA/DAPO-Math-17k", None, "train", distinct_math_rows),
    "countdown": Source("Jiayi-Pan/Countdown-Tasks-3to4", None, "train", countdown_rows),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Load, convert, write as JSON lines."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipes.prepare", description=__doc__)
    parser.add_argument("name", choices=SOURCES)
    parser.add_argument("--source", help="local file in place of the Hub's dataset")
    parser.add_argument("--limit", type=int, help="rows, from the first on (default: all)")
    parser.add_argument("--out", required=True, help="JSON lines file to write")
    arguments = parser.parse_args(argv)
    source = SOURCES[arguments.name]
    rows = load_rows(arguments.source or source.name, source.config, source.split)
    if arguments.limit is not None:
        rows = rows.select(range(min(arguments.limit, len(rows))))
    made = source.make(rows)
    made.to_json(arguments.out)
    print(f"{len(made):,} rows written to {arguments.out}.")


if __name__ == "__main__":
    main()
