"""
REINFORCE, GRPO, DAPO and PG-GRPO with one update on each generation, so that every ratio is 1 when it is used.

A generation is 8 prompts x 8 completions, trained on in one update of 64 completions: as many completions and updates
as in the table off-policy (`python -m benchmarks algorithms`), none of them written by an older policy. What is left of
the methods is how advantages are formed and averaged, and dynamic sampling, whose surplus is dropped here. The clip
never acts, and neither does `pg_beta`, so that learning rates alone are chosen, by as many trials for every method.
"""

from pathlib import Path
from typing import Any

from benchmarks.algorithms import GPU_RATES, RATES, finish
from benchmarks.algorithms.rows import ON_POLICY_METHODS
from benchmarks.harness.method_runs import START, MethodSpec, train_method
from benchmarks.harness.tables import Campaign, Preset, planned_configs, run_table


ALL = tuple(ON_POLICY_METHODS)
PRESETS = {
    "quick": Preset(("grpo", "pg-grpo"), (0,), (1e-4,), 12, 12, 256, 64, 1, token_budget=15_000),
    "full": Preset(ALL, (0, 1), RATES, 160, 40, 1024, 512, 2, token_budget=200_000),
    "gpu": Preset(ALL, (0,), GPU_RATES, 64, 64, 1024, 128, 2, world="gpu", token_budget=250_000),
}


def train(spec: MethodSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    return train_method(None if spec.row == START else ON_POLICY_METHODS[spec.row], spec, start)


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    return planned_configs(ON_POLICY_METHODS, PRESETS[preset])


def run(preset: str, campaign: Campaign) -> dict[str, Any]:
    """Choose learning rates, run what is reported, write; see the module's docstring."""
    runs = run_table(ON_POLICY_METHODS, PRESETS[preset], train, campaign)
    return finish("on_policy", preset, runs, campaign)
