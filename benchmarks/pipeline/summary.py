"""What the runs of the pipeline come to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.algorithms.summary import describe, describe_start
from benchmarks.harness.method_runs import START
from benchmarks.harness.paired import Record, by_row, differences, of_their_start


RL, SCRATCH, LONG, WITH_REWARD_MODEL = "warm-rl", "scratch-rl", "scratch-rl-long", "reward-model-rl"


def summarise(records: Sequence[Record]) -> dict[str, Any]:
    """
    The table.

    Args:
        records (`Sequence[Mapping]`):
            Runs of each row, and of the row `"start"`, which has one per warm start.

    Returns:
        `dict`: by row, accuracy at the end and what the policy is like there, and `difference`: of GRPO after the warm
        start against the warm start alone, and of every other way against it.
    """
    rows = by_row(records)
    accuracies = {
        name: {run: record["points"][-1]["accuracy"] for run, record in runs.items()} for name, runs in rows.items()
    }
    starts = list(rows.pop(START).values())
    accuracies[START] = of_their_start(accuracies[START], accuracies[RL])
    table = {name: describe(list(runs.values()), list(accuracies[name].values())) for name, runs in rows.items()}
    against = {name: START if name == RL else RL for name in rows}
    compared = {name: (accuracies[name], accuracies[other]) for name, other in against.items()}
    for name, difference in differences(compared).items():
        table[name]["difference"] = {**difference, "against": against[name]}
    summary = {**describe_start(starts), "rows": table}
    judged = list(rows.get(WITH_REWARD_MODEL, {}).values())
    if judged:
        names = ("pairs", "pair_tokens", "reward_model_accuracy")
        names += ("scalar_head_accuracy", "scalar_head_training_accuracy")
        summary["reward_model"] = {name: float(np.mean([record[name] for record in judged])) for name in names}
    return summary
