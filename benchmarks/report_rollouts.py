"""The page's section on what filling a batch costs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import table, with_interval


LABELS = {
    "plain": "TRL, DAPO's loss",
    "grpo": 'TRL, loss "grpo"',
    "uniform": "dynamic sampling, prompts in shuffled order",
    "predictive": "dynamic sampling, prompts by estimated pass rate",
    "whole_batch": "dynamic sampling, whole batches, surplus dropped",
}
COLUMNS = {
    "generated_per_trained": "groups generated per informative group trained on",
    "generated_per_trained_second_half": "the same, second half",
    "accuracy_equal_steps": "accuracy at equal steps",
    "accuracy_equal_tokens": "at equal tokens",
    "accuracy_equal_time": "at equal time",
}
LIMITS = (
    "Generation is cheap beside the rest of a step for a policy of 0.3M parameters and answers of some 30 tokens, so "
    "seconds say less than tokens about larger models. Pass rates here follow the number of terms and move quickly; "
    "pools whose pass rates hardly move are kinder to estimates."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """A table for each pool."""
    parts = []
    for pool, rows in result["summary"].items():
        tokens = rows["equal_tokens"]
        lines = [
            [label, *(with_interval(rows[policy][name]) for name in COLUMNS), _speed_up(rows[policy]["speed_up"])]
            for policy, label in LABELS.items()
        ]
        runs = rows["grpo"]["tokens"]["values"]
        parts.append(f"**Pool `{pool}`**, {runs} run(s) a row; equal tokens are {tokens / 1000:,.0f}k.")
        parts.append(table(["policy", *COLUMNS.values(), "speed-up to `grpo`'s final accuracy"], lines))
    return "\n\n".join(parts)


def _speed_up(speed_up: Mapping[str, Any]) -> str:
    """By seconds and by tokens, over the runs that reached the accuracy; a run that never did has none."""
    seconds, tokens = speed_up["time_to_baseline"], speed_up["tokens_to_baseline"]
    if not seconds["values"]:
        return "never reached"
    return f"{seconds['mean']:.2f}x seconds, {tokens['mean']:.2f}x tokens ({seconds['values']} runs)"
