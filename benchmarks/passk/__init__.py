"""
pass@1 to pass@64 of the warm start, GRPO, DAPO and PG-GRPO: does training widen what a policy can do, or sharpen it?

Each is trained off-policy as in `python -m benchmarks algorithms`, with the settings that this benchmark's trials chose
for it (read from its result), and then solves every held-out prompt 64 times.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.algorithms.rows import METHODS
from benchmarks.harness.method_runs import START, MethodSpec, train_method
from benchmarks.harness.paired import by_seed
from benchmarks.harness.results import write_result
from benchmarks.harness.tables import Campaign, Preset, planned_configs, run_table
from benchmarks.passk.summary import summarise


ROWS = ("grpo", "dapo", "pg-grpo")
# Of `python -m benchmarks algorithms`: where a preset's settings come from; the quick one takes the first of each row
TUNED = {"full": "benchmarks/results/algorithms.json", "gpu": "benchmarks/results/algorithms-gpu.json"}
# The final evaluation takes twice `samples`: 64 completions of every prompt
PRESETS = {
    "quick": Preset(("grpo",), (0,), (1e-4,), 16, 16, 128, 32, 8),
    "full": Preset(ROWS, (0, 1), (1e-4,), 160, 160, 1024, 64, 32),
    "gpu": Preset(ROWS, (0,), (3e-5,), 96, 96, 512, 16, 32, world="gpu"),
}


def train(spec: MethodSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    return train_method(None if spec.row == START else METHODS[spec.row], spec, start)


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    return planned_configs(METHODS, PRESETS[preset])


def tuned_settings(path: str | Path, preset: Preset) -> dict[str, dict[str, float]]:
    """
    What the trials of `python -m benchmarks algorithms` chose for each row of a preset.

    Args:
        path (`str` or `Path`):
            That benchmark's result.
        preset ([`Preset`]):
            Whose rows and world are meant.

    Raises:
        ValueError: when there is no such result, it chose nothing for a row, or it is of another world.
    """
    remedy = "Run `python -m benchmarks algorithms` first, or name its result with --tuning-from."
    if not Path(path).is_file():
        raise ValueError(f"{path}, whose choices are to be trained with, does not exist. {remedy}")
    summary = json.loads(Path(path).read_text())["summary"]
    missing = [name for name in preset.methods if name not in summary.get("tuning", {})]
    if missing:
        raise ValueError(f"{path} holds no choice (summary.tuning) for {', '.join(missing)}. {remedy}")
    if (world := summary["sizes"]["world"]) != preset.world:
        raise ValueError(f"{path} is of the world {world!r}, these runs are of {preset.world!r}. {remedy}")
    return {name: summary["tuning"][name]["chosen"] for name in preset.methods}


def run(preset: str, campaign: Campaign, tuning_from: str | None = None) -> dict[str, Any]:
    """Read what was chosen, train, sample, write; see the module's docstring."""
    source = tuning_from or TUNED.get(preset)
    chosen = tuned_settings(source, PRESETS[preset]) if source else None
    runs = run_table(METHODS, PRESETS[preset], train, campaign, chosen)
    summary = {"sizes": runs.sizes, **summarise(runs.records), "tuning": runs.tuning, "tuned_by": source}
    for name, row in summary["rows"].items():
        print(f"{name:>10}: " + "  ".join(f"pass@{k} {value['mean']:.3f}" for k, value in row["pass_at"].items()))
    return write_result(campaign.out, "passk", preset, runs.configs, by_seed(runs.records), summary, runs.commits)
