"""
Prompt selection against a simulated policy: `python -m benchmarks.selection_simulation --out FILE`.

The selector is the trainer's own; what is simulated is the pool. Each prompt has a pass rate `sigmoid(x)`, groups are
binomial, and `x` drifts: all prompts become easier with every generation, a trained prompt once more, and each walks at
random. Scenarios:

- `saturated`: 2,048 prompts, most of them solved or hopeless (uniform accept rate about .35), trained four times over,
  under five kinds of drift, one of which also makes solved prompts fail again
- `million`: 1,000,000 such prompts under slow drift, as many trained groups as prompts in `full`, a quarter in `quick`
- `one_pass`: a run much shorter than its pool, in which no prompt is drawn twice, without and with offline pass rates
  (8 samples each from an earlier policy, 10 % of the prompts unknown)
- `settings`: the constants of the selector, one changed at a time, on `saturated` under slow drift
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from benchmarks.harness.results import interval, write_result
from dapo_ext.prompt_selection import PromptSelector, SelectionSettings
from dapo_ext.sampling.refill import AcceptRate, refill_size
from dapo_ext.sampling.sampler_setup import CARRIED_MARGIN


NUM_GENERATIONS = 8
OFFLINE_SAMPLES = 8
WALK_EVERY = 20  # generations between two steps of the random walk, of the same variance in total
CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Drift:
    """What one generation does to the log-odds of the pass rates."""

    everywhere: float  # added to all prompts
    trained: float  # added to a trained prompt for each of its groups
    walk: float  # standard deviation of the random step


@dataclass(frozen=True)
class Scenario:
    """A pool and a run on it."""

    prompts: int
    batch_groups: int
    generations: int
    drift: Drift
    # Share, mean and standard deviation of the log-odds: solved, hopeless, in between
    mixture: tuple[tuple[float, float, float], ...] = ((0.33, 4.5, 1.0), (0.34, -5.0, 1.0), (0.33, 0.0, 1.3))
    draws_once: bool = False
    offline_pass_rates: bool = False
    selection: SelectionSettings | None = field(default_factory=SelectionSettings)  # None: uniform


SLOW = Drift(everywhere=0.004, trained=0.02, walk=0.03)
DRIFTS = {
    "none": Drift(0.0, 0.0, 0.0),
    "slow": SLOW,
    "fast": Drift(everywhere=0.01, trained=0.05, walk=0.05),
    "walk": Drift(everywhere=0.0, trained=0.0, walk=0.1),
    "decay": Drift(everywhere=-0.01, trained=0.02, walk=0.03),
}
SATURATED = Scenario(prompts=2048, batch_groups=64, generations=4 * 2048 // 64, drift=SLOW)
SETTINGS = {
    "as_shipped": {},
    "plain_thompson": {"sharpness": 1.0},
    "sharpness_2": {"sharpness": 2.0},
    "by_mean_pass_rate": {"sharpness": 1e6},
    "no_exploration": {"explore_every": 10**9},
    "explore_10_percent": {"explore_every": 10},
    "4_candidates": {"candidates_per_group": 4},
    "64_candidates": {"candidates_per_group": 64},
    "age_0.98": {"age_discount": 0.98},
    "age_0.99": {"age_discount": 0.99},
    "never_forget": {"age_discount": 1.0},
    "visit_0.4": {"visit_discount": 0.4},
    "visit_1.0": {"visit_discount": 1.0},
}
PRESETS = {"quick": {"million": 0.25, "drifts": ("slow", "fast")}, "full": {"million": 1.0, "drifts": tuple(DRIFTS)}}


class Pool:
    """Prompts whose pass rates drift."""

    def __init__(self, scenario: Scenario, seed: int):
        self.drift = scenario.drift
        self.rng = np.random.default_rng([seed, 1])
        share, mean, spread = np.array(scenario.mixture).T
        kind = self.rng.choice(len(share), scenario.prompts, p=share / share.sum())
        self.log_odds = self.rng.normal(mean[kind], spread[kind])
        self.generation = 0

    def pass_rates(self, positions=slice(None)) -> np.ndarray:
        return 1 / (1 + np.exp(-self.log_odds[positions] - self.drift.everywhere * self.generation))

    def offline_pass_rates(self) -> np.ndarray:
        """Measured on an earlier policy, half a logit behind; a tenth of them is missing."""
        earlier = 1 / (1 + np.exp(0.5 - self.log_odds))
        rates = self.rng.binomial(OFFLINE_SAMPLES, earlier) / OFFLINE_SAMPLES
        return np.where(self.rng.random(len(rates)) < 0.1, np.nan, rates)

    def roll_out(self, positions: np.ndarray) -> np.ndarray:
        """Right completions of a group for each prompt."""
        return self.rng.binomial(NUM_GENERATIONS, self.pass_rates(positions))

    def train(self, positions: np.ndarray) -> None:
        np.add.at(self.log_odds, positions, self.drift.trained)
        self.generation += 1
        if self.drift.walk and self.generation % WALK_EVERY == 0:
            step = self.drift.walk * WALK_EVERY**0.5
            self.log_odds += self.rng.normal(scale=step, size=len(self.log_odds))


class Uniform:
    """Epochs in random order, with the refill of uniform dynamic sampling."""

    def __init__(self, scenario: Scenario, seed: int):
        self.batch_groups = scenario.batch_groups
        self.accept_rate = AcceptRate()
        self.rng = np.random.default_rng([seed, 2])
        self.order: Iterator[int] = iter(())
        self.size = scenario.prompts

    def start_generation(self) -> None:
        self.accept_rate.age()
        self.first = True

    def draw(self, missing: int, used: set[int]) -> tuple[np.ndarray, np.ndarray]:
        size = refill_size(missing, self.accept_rate.value, self.batch_groups, self.batch_groups, 1)
        count = self.batch_groups if self.first else size
        predicted = np.full(count, self.accept_rate.value)
        self.first = False
        return np.array([self._next() for _ in range(count)]), predicted

    def _next(self) -> int:
        position = next(self.order, None)
        if position is None:
            self.order = iter(self.rng.permutation(self.size).tolist())
            return self._next()
        return position

    def learn(self, right: np.ndarray, informative: np.ndarray) -> None:
        self.accept_rate.update(int(informative.sum()), len(informative))


class Predictive:
    """The trainer's selector."""

    def __init__(self, scenario: Scenario, seed: int, pass_rates: np.ndarray | None):
        self.batch_groups = scenario.batch_groups
        self.selector = PromptSelector(
            scenario.prompts, NUM_GENERATIONS, scenario.batch_groups, seed, pass_rates, scenario.selection
        )
        self.start_generation = self.selector.start_generation

    def draw(self, missing: int, used: set[int]) -> tuple[np.ndarray, np.ndarray]:
        self.drawn = self.selector.draw(missing, self.batch_groups, sorted(used), margin=CARRIED_MARGIN)
        return self.drawn.positions, self.drawn.predicted

    def learn(self, right: np.ndarray, informative: np.ndarray) -> None:
        self.selector.observe(self.drawn, right, informative, True, lengths=np.ones(len(right)))


def simulate(scenario: Scenario, seed: int) -> dict[str, Any]:
    """One run: batches filled with informative groups, surplus carried to the next."""
    pool = Pool(scenario, seed)
    if scenario.selection is None:
        source = Uniform(scenario, seed)
    else:
        source = Predictive(scenario, seed, pool.offline_pass_rates() if scenario.offline_pass_rates else None)
    trained = np.zeros(scenario.prompts, dtype=np.int64)
    generated = np.zeros(scenario.generations, dtype=np.int64)
    predicted, realised, seconds, rounds = [], [], [], 0
    seen = np.zeros(scenario.prompts, dtype=bool)
    used: set[int] = set()
    waiting = 0
    accept_rate = [_accept_rate(pool)]
    for generation in range(scenario.generations):
        used = used if scenario.draws_once else set()
        missing, batch = scenario.batch_groups - waiting, []
        start = time.perf_counter()
        source.start_generation()
        while missing > 0:
            positions, chances = source.draw(missing, used)
            seconds.append(time.perf_counter() - start)
            right = pool.roll_out(positions)
            informative = (right > 0) & (right < NUM_GENERATIONS)
            start = time.perf_counter()
            source.learn(right, informative)
            used.update(positions.tolist())
            seen[positions] = True
            missing -= int(informative.sum())
            generated[generation] += len(positions)
            batch.append(positions[informative])
            predicted.append(chances)
            realised.append(informative)
            rounds += 1
        waiting = -missing
        positions = np.concatenate(batch)
        np.add.at(trained, positions, 1)
        pool.train(positions)
    accept_rate.append(_accept_rate(pool))
    share = trained[trained > 0] / trained.sum()
    half = scenario.generations // 2
    later = scenario.batch_groups * (scenario.generations - half)
    return {
        "generated_per_trained": generated.sum() / (scenario.batch_groups * scenario.generations),
        "generated_per_trained_second_half": generated[half:].sum() / later,
        "share_of_limit": scenario.batch_groups * scenario.generations / generated.sum(),
        "uniform_accept_rate_start": accept_rate[0],
        "uniform_accept_rate_end": accept_rate[1],
        "rounds_per_batch": rounds / scenario.generations,
        "coverage": seen.mean(),
        "prompts_trained": float((trained > 0).sum()),
        "effective_prompts_trained": float(np.exp(-(share * np.log(share)).sum())),
        **_calibration(np.concatenate(predicted), np.concatenate(realised)),
        "milliseconds_per_draw": 1000 * float(np.median(seconds)),
    }


def _accept_rate(pool: Pool) -> float:
    rates = pool.pass_rates()
    return float((1 - rates**NUM_GENERATIONS - (1 - rates) ** NUM_GENERATIONS).mean())


def _calibration(predicted: np.ndarray, realised: np.ndarray) -> dict[str, Any]:
    """Mean predicted and realised chance, over all draws and in bins of the predicted one."""
    bins = np.minimum((predicted * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    table = [
        {"predicted": predicted[bins == b].mean(), "realised": realised[bins == b].mean(), "share": (bins == b).mean()}
        for b in np.unique(bins)
    ]
    return {
        "predicted_accept_rate": predicted.mean(),
        "realised_accept_rate": realised.mean(),
        "calibration_error": sum(abs(row["predicted"] - row["realised"]) * row["share"] for row in table),
        "calibration": [{name: round(float(value), 4) for name, value in row.items()} for row in table],
    }


def scenarios(preset: str) -> dict[str, Scenario]:
    """All runs of a preset, by name."""
    chosen = {}
    for name in PRESETS[preset]["drifts"]:
        for policy in ("uniform", "predictive"):
            scenario = replace(SATURATED, drift=DRIFTS[name])
            chosen[f"saturated/{name}/{policy}"] = _with_policy(scenario, policy)
    million = Scenario(
        prompts=1_000_000,
        batch_groups=512,
        generations=int(PRESETS[preset]["million"] * 1_000_000 / 512),
        drift=Drift(everywhere=0.0004, trained=0.02, walk=0.005),
    )
    short = Scenario(prompts=1_000_000, batch_groups=64, generations=400, drift=SLOW, draws_once=True)
    for policy in ("uniform", "predictive"):
        chosen[f"million/{policy}"] = _with_policy(million, policy)
        chosen[f"one_pass/{policy}"] = _with_policy(short, policy)
    chosen["one_pass/predictive_with_pass_rates"] = replace(short, offline_pass_rates=True)
    for name, changes in SETTINGS.items():
        chosen[f"settings/{name}"] = replace(SATURATED, selection=SelectionSettings(**changes))
    return chosen


def _with_policy(scenario: Scenario, policy: str) -> Scenario:
    return scenario if policy == "predictive" else replace(scenario, selection=None)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection_simulation", description=__doc__)
    parser.add_argument("--preset", default="quick", choices=PRESETS)
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds, from 0 on (default: %(default)s)")
    parser.add_argument("--out", required=True, help="JSON file to write")
    arguments = parser.parse_args()
    runs = scenarios(arguments.preset)
    seeds, summary = [], {}
    for name, scenario in runs.items():
        results = [simulate(scenario, seed) for seed in range(arguments.seeds)]
        seeds += [{"scenario": name, "seed": seed, **result} for seed, result in enumerate(results)]
        numbers = [key for key, value in results[0].items() if not isinstance(value, list)]
        summary[name] = {key: interval([result[key] for result in results]) for key in numbers}
        mean = {key: round(value["mean"], 3) for key, value in summary[name].items()}
        print(name, mean, flush=True)
    configs = {name: asdict(scenario) for name, scenario in runs.items()}
    write_result(arguments.out, "selection_simulation", arguments.preset, configs, seeds, summary)


if __name__ == "__main__":
    main()
