"""The page's section on what filling a batch costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.page.markdown import p_value, table, with_interval
from benchmarks.rollouts.plot import plot_rollouts
from benchmarks.rollouts.rows import POLICIES


LABELS = {name: method.label for name, method in POLICIES.items()}
COST = {
    "generated_per_trained": "groups generated per informative group trained on",
    "generated_per_trained_second_half": "the same, second half",
    "accept_rate": "share of the generated groups that inform",
}
ACCURACY = {
    "accuracy_equal_steps": ("uniform", "at equal steps"),
    "accuracy_equal_tokens": ("plain", "at equal tokens"),
    "accuracy_equal_time": ("plain", "at equal time"),
}
SELECTION = {
    "predicted_accept_rate": "predicted accept rate",
    "realised_accept_rate": "realised",
    "exploration_share": "share of draws that explore",
    "coverage": "share of the prompts ever drawn",
}
LIMITS = (
    "Generation is cheap beside the rest of a step for a policy of 0.3M parameters and answers of some 30 tokens, so "
    "seconds say less than tokens about larger models. The pass rates of this task follow the number of terms and move "
    "quickly; pools whose pass rates hardly move are kinder to estimates. The saturated pool was made so that enough "
    "of its prompts stay informative to the end of the run: where fewer do than a batch holds, no choice of prompts "
    "comes near one group generated per group trained on."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Two tables for each pool, what cost and what it brought, and the picture."""
    picture = plots / f"rollouts-{result['preset']}.png"
    plot_rollouts(result, LABELS, picture)
    sizes = {name: result["seeds"][0]["spec"][name] for name in ("held_out", "curve_prompts", "samples")}
    parts = [
        INTRO.format(**sizes, at_end=2 * sizes["samples"], rate=_common_rate(result)),
        f"![Cost of a batch and held-out accuracy by pool]({plots.name}/{picture.name})",
    ]
    for pool, rows in result["summary"].items():
        parts += [
            f"**Pool `{pool}`**, {rows['grpo']['tokens']['values']} run(s) a row.",
            _costs(rows),
            _accuracies(rows),
        ]
    parts.append(_calibration(result))
    return "\n\n".join(parts)


def _common_rate(result: Mapping[str, Any]) -> float:
    (rate,) = {config["learning_rate"] for config in result["configs"].values()}
    return rate


INTRO = (
    "Every row trains on batches of 64 groups of 8 completions, in four updates, at one learning rate that was tuned "
    "for none of them ({rate:g}). Rows without dynamic sampling train "
    "on dead groups too; their cost counts the informative ones, like that of the others. Equal time is the "
    "baseline's time, the baseline being TRL's trainer with loss `grpo`. Speed-up: the baseline's cost over that of a "
    "policy, each until its curve first reaches the accuracy that the baseline ends with. Runs are processes of one "
    "thread, one or two at a time and in turns; seconds leave evaluation out. "
    "Accuracy at equal steps is avg@{at_end} on {held_out:,} held-out prompts, at the end of the runs; the others are "
    "read between two points of the curve, of avg@{samples} on {curve_prompts:,} of them. Differences are paired by "
    "warm start and seed; their intervals hold for one comparison, `p` is of the paired t-test after Holm's correction "
    "for all differences of the pool."
)


def _costs(rows: Mapping[str, Any]) -> str:
    lines = [
        [
            label,
            *(with_interval(rows[policy][name]) for name in COST),
            f"{rows[policy]['tokens']['mean'] / 1000:,.0f}k",
            f"{rows[policy]['seconds']['mean']:,.0f}",
            f"{rows[policy]['cpu_seconds']['mean']:,.0f}",
        ]
        for policy, label in LABELS.items()
    ]
    return table(["policy", *COST.values(), "tokens", "seconds", "CPU seconds"], lines)


def _accuracies(rows: Mapping[str, Any]) -> str:
    tokens = f"{rows['equal_tokens'] / 1000:,.0f}k"
    header = ["policy"]
    for name, (other, where) in ACCURACY.items():
        where = f"{where} ({tokens})" if name == "accuracy_equal_tokens" else where
        header += [f"accuracy {where}", f"minus `{other}`"]
    lines = [
        [label, *_with_differences(rows[policy]), _speed_up(rows[policy]["speed_up"])]
        for policy, label in LABELS.items()
    ]
    return table([*header, "speed-up to the baseline's final accuracy"], lines)


def _with_differences(row: Mapping[str, Any]) -> list[str]:
    cells = []
    for name, (other, _) in ACCURACY.items():
        difference = row["paired"].get(f"{name}_minus_{other}")
        cells += [with_interval(row[name]), _difference(difference) if difference else "-"]
    return cells


def _difference(difference: Mapping[str, Any]) -> str:
    p = "" if difference["p_holm"] is None else f", p {p_value(difference['p_holm'])}"
    return with_interval(difference, "+") + p


def _speed_up(speed_up: Mapping[str, Any]) -> str:
    """On each axis, over the runs that reached the accuracy; a run that never did has none."""
    runs = speed_up["seconds"]["values"]
    if not runs:
        return "never reached"
    names = {"seconds": "seconds", "cpu_seconds": "CPU seconds", "tokens": "tokens"}
    return ", ".join(
        [*(f"{with_interval(speed_up[axis])} in {name}" for axis, name in names.items()), f"{runs} run(s)"]
    )


def _calibration(result: Mapping[str, Any]) -> str:
    """What selection promised beside what came true, over the second half of the runs."""
    lines = []
    for pool in result["summary"]:
        logged = [
            entry
            for record in result["seeds"]
            if (record["spec"]["pool"], record["spec"]["row"]) == (pool, "predictive")
            for entry in record["prompt_selection"]
            if entry["step"] > record["spec"]["steps"] / 2
        ]
        values = (np.mean([entry[f"prompt_selection/{name}"] for entry in logged]) for name in SELECTION)
        lines.append([pool, *(f"{value:.3f}" for value in values)])
    return "Selection in the second half of the runs:\n\n" + table(["pool", *SELECTION.values()], lines)
