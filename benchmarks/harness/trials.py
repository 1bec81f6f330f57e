"""How settings are chosen: by the same budget of trials for every method, on a split that is not the reported one."""

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.methods import Method


Record = Mapping[str, Any]
Settings = Mapping[str, float]
MOST_RATES = 5
TUNING_SEED = 1000  # of the trials' prompts, samples and shuffling; none of the reported ones


def combinations(method: Method, rates: Sequence[float], knobs: int) -> list[dict[str, float]]:
    """Every learning rate with each of the first `knobs` values of the method's own hyper-parameter."""
    return [{"learning_rate": rate, **knob} for knob, rate in itertools.product(method.knob[:knobs], rates)]


def trial_accuracies(trials: Sequence[Record]) -> dict[str, list[tuple[Settings, float]]]:
    """What was tried in each trial and its accuracy where it ended, by row."""
    accuracies: dict[str, list[tuple[Settings, float]]] = defaultdict(list)
    for trial in trials:
        spec = trial["spec"]
        if spec["split"] != "tuning":
            raise ValueError(f"A run on the split {spec['split']!r} is no trial: nothing may be chosen by it.")
        accuracies[spec["row"]].append((spec["tried"], trial["points"][-1]["accuracy"]))
    return dict(accuracies)


def choose(trials: Sequence[Record]) -> dict[str, Settings]:
    """What was best for each row; where trials tie, the smaller learning rate, and the knob that is named first."""
    return {
        row: dict(min(tried, key=lambda trial: (-trial[1], trial[0]["learning_rate"]))[0])
        for row, tried in trial_accuracies(trials).items()
    }


def wider_rates(rates: tuple[float, ...], chosen: Sequence[float]) -> tuple[float, ...]:
    """
    A grid of learning rates with one more value, a third of the smallest or three times the largest, where one of the
    choices is an edge of it. A grid of two has nothing but edges and stays what it is, as does one of five.
    """
    if not 3 <= len(rates) < MOST_RATES:
        return rates
    if rates[0] in chosen:
        return (float(f"{rates[0] / 3:.3g}"), *rates)
    return (*rates, float(f"{rates[-1] * 3:.3g}")) if rates[-1] in chosen else rates
