"""
`python -m benchmarks check`: whether quick results lie where the committed ones predict them.

A quick result with several seeds is committed for each benchmark. The figures of a rerun have to lie inside intervals
that hold for all of a benchmark's figures at once with 99 %: `mean +- t s sqrt(1 / n + 1 / m)` for n committed runs and
m new ones, with a standard deviation s pooled over the figures (whose runs are alike in size), of at least .01 for
ratios of step times, and Bonferroni's t.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness.comparisons import both_tails


LEVEL = 0.01
# Ratios of step times vary by more from day to day than between the seeds of one session
LEAST_SPREAD = {"overhead": 0.01}
Figures = dict[str, list[float]]  # a figure's value in each run


@dataclass(frozen=True)
class Verdict:
    """One figure of a rerun beside what was predicted of it."""

    name: str
    value: float
    low: float
    high: float

    @property
    def inside(self) -> bool:
        return self.low <= self.value <= self.high


def figures(result: Mapping[str, Any]) -> Figures:
    """What of a result is predicted: the accuracy of every row at the end of each run, or ratios of step times."""
    if result["benchmark"] == "overhead":
        return _step_ratios(result["seeds"])
    found: Figures = {}
    for entry in result["seeds"]:
        rows = entry["rows"] if "rows" in entry else {f"{entry['spec']['pool']} {entry['spec']['row']}": entry}
        for name, record in rows.items():
            if name != "start":  # made once, whatever the number of seeds
                found.setdefault(name, []).append(record["points"][-1]["accuracy"])
    return found


def _step_ratios(entries: Sequence[Mapping[str, Any]]) -> Figures:
    names = [name for name in entries[0]["step_seconds"] if name != "trl"]
    return {name: [_median_ratio(entry["step_seconds"], name) for entry in entries] for name in names}


def _median_ratio(seconds: Mapping[str, Sequence[float]], name: str) -> float:
    return float(np.median(np.divide(seconds[name], seconds["trl"])))


def compare(committed: Figures, fresh: Figures, least_spread: float = 0.0) -> list[Verdict]:
    """
    Put every figure of a rerun beside its prediction interval.

    Args:
        committed (`dict[str, list[float]]`), fresh (`dict[str, list[float]]`):
            Each figure's value by run; at least two committed runs.
        least_spread (`float`, *optional*, defaults to `0.0`):
            What the standard deviation is taken for where the committed runs have less.

    Raises:
        ValueError: when the two hold different figures, or the committed one has a single run.
    """
    if committed.keys() != fresh.keys():
        raise ValueError(f"The results differ in their rows: {sorted(committed)} and {sorted(fresh)}.")
    freedom = sum(len(values) - 1 for values in committed.values())
    if freedom == 0:
        raise ValueError("The committed result has one run of each row, from which no spread can be told.")
    squares = sum(float(np.var(values)) * len(values) for values in committed.values())
    spread = max(math.sqrt(squares / freedom), least_spread)
    quantile = t_quantile(1 - LEVEL / 2 / len(committed), freedom)
    verdicts = []
    for name, values in committed.items():
        mean, value = float(np.mean(values)), float(np.mean(fresh[name]))
        reach = quantile * spread * math.sqrt(1 / len(values) + 1 / len(fresh[name]))
        verdicts.append(Verdict(name, value, mean - reach, mean + reach))
    return verdicts


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile, above the median, of Student's t."""

    above = 2 * (1 - probability)
    low, high = 0.0, 1.0
    while both_tails(high, freedom) > above:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if both_tails(middle, freedom) > above else (low, middle)
    return high


def main(argv: Sequence[str]) -> int:
    """Compare all results of two directories; 0 when every figure is where it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks check", description="Compare quick results.")
    parser.add_argument("--committed", default="benchmarks/results/quick", help="(default: %(default)s)")
    parser.add_argument("--fresh", default="runs/bench", help="(default: %(default)s)")
    arguments = parser.parse_args(argv)
    failed = checked = 0
    for path in sorted(Path(arguments.fresh).glob("*.json")):
        counterpart = Path(arguments.committed) / path.name
        if not counterpart.is_file():
            print(f"{path.name}: no committed result to compare it with")
            continue
        try:
            committed, fresh = (json.loads(each.read_text()) for each in (counterpart, path))
            least_spread = LEAST_SPREAD.get(committed["benchmark"], 0.0)
            verdicts = compare(figures(committed), figures(fresh), least_spread)
        except ValueError as error:
            raise SystemExit(f"{path.name}: {error}") from error
        for verdict in verdicts:
            word = "inside" if verdict.inside else "OUTSIDE"
            print(f"{path.name} {verdict.name}: {verdict.value:.3f} {word} [{verdict.low:.3f}, {verdict.high:.3f}]")
            checked, failed = checked + 1, failed + (not verdict.inside)
    print(f"{checked} figures compared, {failed} of them outside.")
    return 1 if failed or not checked else 0
