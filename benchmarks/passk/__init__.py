"""
pass@1 to pass@64 of the warm start, GRPO, DAPO and PG-GRPO: does training widen what a policy can do, or sharpen it?

Each is trained off-policy as in `python -m benchmarks algorithms`, with a learning rate chosen by as many trials for
every method, and then solves every held-out prompt 64 times.
"""

from pathlib import Path
from typing import Any

from benchmarks.algorithm_rows import METHODS
from benchmarks.algorithms import RATES
from benchmarks.method_runs import START, MethodSpec, train_method
from benchmarks.paired import by_seed
from benchmarks.passk.summary import summarise
from benchmarks.results import write_result
from benchmarks.tables import Campaign, Preset, planned_configs, run_table


ROWS = ("grpo", "dapo", "pg-grpo")
# The final evaluation takes twice `samples`: 64 completions of every prompt
PRESETS = {
    "quick": Preset(("grpo",), (0,), (1e-4,), 16, 16, 128, 32, 8),
    "full": Preset(ROWS, (0, 1), RATES, 160, 160, 1024, 64, 32),
    "gpu": Preset(ROWS, (0,), (2e-5, 6e-5), 96, 96, 512, 16, 32, world="gpu"),
}


def train(spec: MethodSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    return train_method(None if spec.row == START else METHODS[spec.row], spec, start)


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    return planned_configs(METHODS, PRESETS[preset])


def run(preset: str, campaign: Campaign) -> dict[str, Any]:
    """Choose learning rates, train, sample, write; see the module's docstring."""
    runs = run_table(METHODS, PRESETS[preset], train, campaign)
    summary = {"sizes": runs.sizes, **summarise(runs.records), "tuning": runs.tuning}
    for name, row in summary["rows"].items():
        print(f"{name:>10}: " + "  ".join(f"pass@{k} {value['mean']:.3f}" for k, value in row["pass_at"].items()))
    return write_result(campaign.out, "passk", preset, runs.configs, by_seed(runs.records), summary)
