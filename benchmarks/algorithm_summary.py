"""What the runs of `python -m benchmarks algorithms` come to: pure arithmetic on their records."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.algorithm_rows import BASELINE
from benchmarks.comparisons import holm, paired_p_value
from benchmarks.playground_runs import at
from benchmarks.results import interval


Record = Mapping[str, Any]
# Logged metric -> what it is in a record; the offline trainer's are shares of one side of the pairs each
CLIP_METRICS = {
    "clip_ratio/low_mean": "low",
    "clip_ratio/high_mean": "high",
    "clip_ratio/region_mean": "share",
    "pg_dpo/rejected_clipped_low": "low",
    "pg_dpo/chosen_clipped_high": "high",
}


def clip_shares(log_history: Sequence[Mapping[str, float]], steps: int) -> dict[str, float]:
    """
    Share of what is clipped, over the second half of a run.

    Args:
        log_history (`Sequence[Mapping]`):
            Logged records with their `step`.
        steps (`int`):
            Optimizer steps of the run.

    Returns:
        `dict`: `low`, `high` and their joint `share`: of tokens, or of completions where these have one ratio. Empty
        where nothing is clipped by design.
    """
    late = [entry for entry in log_history if entry["step"] > steps / 2]
    shares = {}
    for metric, name in CLIP_METRICS.items():
        values = [entry[metric] for entry in late if metric in entry]
        if values:
            shares[name] = float(np.mean(values))
    if shares and "share" not in shares:
        shares["share"] = (shares["low"] + shares["high"]) / 2  # a pair is one chosen and one rejected completion
    return shares


def choose_rates(trials: Sequence[Record]) -> dict[str, float]:
    """Each method's learning rate with the best accuracy at the end of its trials; the smaller one where two tie."""
    accuracies = trial_accuracies(trials)
    return {name: min(by_rate, key=lambda rate: (-by_rate[rate], rate)) for name, by_rate in accuracies.items()}


def trial_accuracies(trials: Sequence[Record]) -> dict[str, dict[float, float]]:
    """Accuracy at the end of each trial, by method and learning rate."""
    accuracies: dict[str, dict[float, float]] = defaultdict(dict)
    for trial in trials:
        spec = trial["spec"]
        if spec["split"] != "tuning":
            raise ValueError(f"A run on the split {spec['split']!r} is no trial: nothing may be chosen by it.")
        accuracies[spec["row"]][spec["changes"]["learning_rate"]] = trial["points"][-1]["accuracy"]
    return dict(accuracies)


def accuracy_at_tokens(points: Sequence[Mapping[str, float]], tokens: float) -> float:
    """
    A run's accuracy when it had generated so many tokens.

    An offline run has generated all its tokens before the first update, so it stands at its end.
    """
    return points[-1]["accuracy"] if _is_offline(points) else at(points, "tokens", tokens)


def _is_offline(points: Sequence[Mapping[str, float]]) -> bool:
    return points[0]["tokens"] > 0


def summarise(trials: Sequence[Record], records: Sequence[Record]) -> dict[str, Any]:
    """
    The table.

    Args:
        trials (`Sequence[Mapping]`):
            Runs on the tuning split.
        records (`Sequence[Mapping]`):
            Reported runs of each row, with the same warm starts and seeds; the row `"start"` has one per warm start.

    Returns:
        `dict`:

        - `equal_tokens`: tokens of the run that generated least; where every row's `accuracy` is read.
        - `start`: accuracy of the warm starts.
        - `rows`: by row, accuracy at equal tokens and at the end with 95 % bootstrap intervals over runs, means of
          tokens, clip shares, entropy and length, and `difference`: paired with the baseline's run of the same warm
          start and seed, at equal tokens, with a 95 % bootstrap interval (of this difference alone), `p` of the paired
          t-test and `p_holm` after Holm's correction for all differences in the table.
        - `learning_rates`: by row, the trials and the choice.
    """
    rows: dict[str, dict[tuple[int, int], Record]] = defaultdict(dict)
    for record in records:
        rows[record["spec"]["row"]][record["spec"]["start"], record["spec"]["seed"]] = record
    start = rows.pop("start")
    equal_tokens = min(record["points"][-1]["tokens"] for runs in rows.values() for record in runs.values())
    accuracies = {
        name: {run: accuracy_at_tokens(record["points"], equal_tokens) for run, record in runs.items()}
        for name, runs in rows.items()
    }
    table = {name: _describe(list(runs.values()), list(accuracies[name].values())) for name, runs in rows.items()}
    compared = [name for name in table if name != BASELINE]
    for name in compared:
        differences = [accuracies[name][run] - accuracies[BASELINE][run] for run in accuracies[BASELINE]]
        table[name]["difference"] = {**interval(differences), "p": paired_p_value(differences)}
    for name, p_value in zip(compared, holm([table[name]["difference"]["p"] for name in compared]), strict=True):
        table[name]["difference"]["p_holm"] = p_value
    chosen = choose_rates(trials)
    return {
        "equal_tokens": equal_tokens,
        "start": interval([record["points"][-1]["accuracy"] for record in start.values()]),
        "start_entropy": float(np.mean([record["entropy"] for record in start.values()])),
        "start_length": float(np.mean([record["points"][-1]["length"] for record in start.values()])),
        "rows": table,
        "learning_rates": {
            name: {"trials": [list(trial) for trial in by_rate.items()], "chosen": chosen[name]}
            for name, by_rate in trial_accuracies(trials).items()
        },
    }


def _describe(runs: Sequence[Record], accuracies: Sequence[float]) -> dict[str, Any]:
    last = [record["points"][-1] for record in runs]
    clip = {name: float(np.mean([record["clip"][name] for record in runs])) for name in runs[0]["clip"]}
    return {
        "accuracy": interval(accuracies),
        "accuracy_end": interval([point["accuracy"] for point in last]),
        "pass_end": interval([point["pass"] for point in last]),
        "tokens": float(np.mean([point["tokens"] for point in last])),
        "steps": float(np.mean([point["step"] for point in last])),
        "length": float(np.mean([point["length"] for point in last])),
        "truncated": float(np.mean([point["truncated"] for point in last])),
        "entropy": float(np.mean([record["entropy"] for record in runs])),
        "cpu_seconds": float(np.mean([point["cpu_seconds"] for point in last])),
        "clip": clip,
        "is_offline": _is_offline(runs[0]["points"]),
    }
