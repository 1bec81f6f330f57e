"""
Step time and peak memory of the trainers against TRL's, at neutral settings and with each feature on.

`neutral` is `DAPOTrainer` with dynamic sampling and punishment off; `replay` has dynamic sampling on with rewards that
make every group informative, so that nothing is refilled and all that is left is the bookkeeping. Both train on the
completions TRL's trainer trains on, to the bit. With a feature on, the learning rate is 0, so that all rows do the same
amount of work whatever the feature would have them learn. Trainers take turns step by step; TRL's takes part twice,
which shows what the ratio of equal trainers looks like. Peak memory is measured in processes of their own, with a
policy that weighs more than the libraries. What has been measured is kept beside the result, part by part, so that an
interrupted measurement goes on where it was.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from benchmarks.harness.parts import Parts
from benchmarks.harness.results import interval, write_result
from benchmarks.harness.worlds import LARGE_POLICY, MEDIUM_POLICY, ON_GPU
from benchmarks.overhead.growth import Point, measure, measure_memory, points
from benchmarks.overhead.memory import peak_memory
from benchmarks.overhead.rows import FEATURES, LAYOUT, PAIR_LAYOUT, PAIRS, SAME_WORK, TRL, Row, of_length
from benchmarks.overhead.turns import step_seconds


@dataclass(frozen=True)
class Preset:
    """How much is measured."""

    steps: int  # timed steps of the rows that do the same work
    feature_steps: int
    growth_steps: int = 0  # none: growth is not measured
    growth: Mapping[str, Sequence[int]] = field(default_factory=dict)
    memory_policy: Mapping[str, int] | None = None  # none: memory is not measured
    policy: Mapping[str, int] = field(default_factory=dict)
    layout: Mapping[str, Any] = field(default_factory=dict)  # changes to it


PRESETS = {
    "quick": Preset(8, 8),
    "full": Preset(
        60,
        40,
        20,
        {
            "lengths": (40, 80, 160),
            "groups": (4, 8, 16),
            "batches": (16, 32, 64),
            "pools": (2048, 131_072, 1_048_576),
            "ranks": (1, 2),
        },
        memory_policy=MEDIUM_POLICY,
    ),
    "gpu": Preset(
        8,
        6,
        4,
        {"lengths": (128, 256, 512), "groups": (4, 8, 16), "batches": (16, 32, 64), "pools": (1_048_576,), "ranks": ()},
        memory_policy=LARGE_POLICY,
        policy=LARGE_POLICY,
        layout={**ON_GPU, **of_length(128)},
    ),
}
STILL = {"learning_rate": 0.0}


def run(preset: str, seeds: int, out: str, deadline: float | None = None) -> dict[str, Any]:
    """Measure and write; see the module's docstring. An `OutOfTime` leaves what was measured for the next call."""
    transformers.logging.set_verbosity_error()
    sizes = PRESETS[preset]
    parts = Parts(Path(out).with_suffix(".parts"), {"preset": asdict(sizes)}, deadline)
    measured = parts.measure({part: work for seed in range(seeds) for part, work in _plan(sizes, seed).items()})
    entries = [_entry(sizes, seed, measured) for seed in range(seeds)]
    summary = summarise(entries)
    for name in SAME_WORK.keys() - {TRL}:
        value = summary[f"{name}_over_trl"]
        print(f"{name}: {value['median']:.3f}  [{value['interval'][0]:.3f}, {value['interval'][1]:.3f}]")
    rows = {label: config for label, _, config in configs(preset)}
    return write_result(out, "overhead", preset, rows, entries, {"sizes": asdict(sizes), **summary}, parts.commits)


def _plan(preset: Preset, seed: int) -> dict[str, Callable[[], Any]]:
    """Every part of a seed's measurement: step times, then peak memory, that of growth too where one process grows."""
    policy, memory_policy = dict(preset.policy), preset.memory_policy
    layout, pair_layout = {**LAYOUT, **preset.layout}, {**PAIR_LAYOUT, **_of_pairs(preset.layout)}
    still, places = layout | STILL, points(**preset.growth) if preset.growth_steps else []
    plan: dict[str, Callable[[], Any]] = {
        "same-work": partial(step_seconds, SAME_WORK, layout, seed, preset.steps, policy),
        "features": partial(step_seconds, FEATURES, still, seed, preset.feature_steps, policy),
        "pairs": partial(step_seconds, PAIRS, pair_layout | STILL, seed, preset.feature_steps, policy),
    }
    for point in places:
        plan[point.name] = partial(measure, point, still, seed, preset.growth_steps, policy)
    if memory_policy is not None:
        for name, row in (SAME_WORK | FEATURES).items():
            plan[f"memory-{name}"] = partial(peak_memory, {name: row}, layout, seed, dict(memory_policy))
        plan["pair-memory"] = partial(peak_memory, PAIRS, pair_layout, seed, dict(memory_policy))
        for point in places:
            if point.ranks == 1:
                plan[f"memory-{point.name}"] = partial(measure_memory, point, layout, seed, dict(memory_policy))
    return {f"seed{seed}-{name}": work for name, work in plan.items()}


def _entry(preset: Preset, seed: int, measured: Mapping[str, Any]) -> dict[str, Any]:
    """What a seed's parts say, put together."""
    mine = {name.removeprefix(f"seed{seed}-"): value for name, value in measured.items()}
    places = points(**preset.growth) if preset.growth_steps else []
    entry = {
        "seed": seed,
        "step_seconds": mine["same-work"],
        "feature_seconds": mine["features"],
        "pair_seconds": mine["pairs"],
        "growth": [{**mine[point.name], **_memory_at(point, mine)} for point in places],
    }
    if preset.memory_policy is not None:
        entry["memory"] = {name: mine[f"memory-{name}"][name] for name in SAME_WORK | FEATURES}
        entry["pair_memory"] = mine["pair-memory"]
    return entry


def _memory_at(point: Point, measured: Mapping[str, Any]) -> dict[str, Any]:
    name = f"memory-{point.name}"
    return {"memory": measured[name]} if name in measured else {}


def _of_pairs(layout: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in layout.items() if name in ON_GPU}


def summarise(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ratios to TRL's trainer, each formed within a step, as medians over all steps with 95 % bootstrap intervals."""
    summary: dict[str, Any] = _ratios([entry["step_seconds"] for entry in entries])
    summary["features"] = _ratios([entry["feature_seconds"] for entry in entries])
    summary["pairs"] = _ratios([entry["pair_seconds"] for entry in entries])
    summary["growth"] = [
        {
            "axis": places[0]["axis"],
            "value": places[0]["value"],
            "trl_seconds": statistics.median(second for place in places for second in place["step_seconds"][TRL]),
            **_ratios([place["step_seconds"] for place in places]),
            **_memory([place["memory"] for place in places if "memory" in place]),
        }
        for places in zip(*(entry["growth"] for entry in entries), strict=True)
    ]
    return summary


def _memory(peaks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Medians over seeds in MiB; empty where none was measured."""
    names = peaks[0] if peaks else ()
    return {f"{name}_peak_mib": statistics.median(peak[name] for peak in peaks) for name in names}


def _ratios(measured: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    ratios = {}
    for name in measured[0]:
        if name != TRL:
            pairs = [zip(seconds[name], seconds[TRL], strict=True) for seconds in measured]
            ratios[f"{name}_over_trl"] = interval([ours / theirs for pair in pairs for ours, theirs in pair], np.median)
    return ratios


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    sizes = PRESETS[preset]
    layout, pair_layout = {**LAYOUT, **sizes.layout}, {**PAIR_LAYOUT, **_of_pairs(sizes.layout)}

    def built(rows: Mapping[str, Row], settings: Mapping[str, Any], prefix: str) -> list[tuple[str, type, dict]]:
        return [(f"{prefix}{name}", row.config, {**settings, **row.settings}) for name, row in rows.items()]

    planned = built(SAME_WORK, layout, "") + built(FEATURES, layout | STILL, "feature ")
    planned += built(PAIRS, pair_layout | STILL, "pairs ")
    places = points(**sizes.growth) if sizes.growth_steps else []
    for point in places:
        planned += built(SAME_WORK, {**layout, **point.changes}, f"{point.axis} {point.value} ")
    return planned
