"""
REINFORCE, DPO, PG-DPO, GRPO, GSPO, DAPO and PG-GRPO from one warm start, off-policy, at equal generated tokens.

On-policy methods generate 64 prompts x 8 completions at a time and take 8 optimizer updates of 64 completions on them.
The offline methods take as many updates, of 32 pairs, on pairs made from the warm start's own samples; the tokens of
these samples are what they generated. Every run is measured in full, as at its end, when the generated tokens reach the
preset's budget, which none passes by more than a generation. Two stages: every method's learning rate, and the one
hyper-parameter of its own that decides how far an update may go (clip, KL weight or `pg_beta`), are chosen by as many
trials on the tuning split, at the same tokens, from a seed that is not reported; then the reported seeds run and are
measured on the held-out split.
"""

from pathlib import Path
from typing import Any

from benchmarks.algorithms.rows import METHODS
from benchmarks.algorithms.summary import summarise
from benchmarks.harness.method_runs import START, MethodSpec, train_method
from benchmarks.harness.paired import by_seed
from benchmarks.harness.results import write_result
from benchmarks.harness.tables import Campaign, Preset, TableRuns, planned_configs, run_table


RATES = (5e-5, 1.5e-4, 4.5e-4)
GPU_RATES = (1e-5, 3e-5, 9e-5)
ALL = tuple(METHODS)
PRESETS = {
    "quick": Preset(("grpo", "pg-grpo", "dpo", "pg-dpo"), (0,), (1e-4, 3e-4), 16, 8, 256, 64, 1, token_budget=20_000),
    "full": Preset(ALL, (0, 1), RATES, 160, 40, 1024, 512, 2, knobs=4, token_budget=200_000),
    "gpu": Preset(ALL, (0,), GPU_RATES, 96, 48, 1024, 128, 2, knobs=4, world="gpu", token_budget=350_000),
}


def train(spec: MethodSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    return train_method(None if spec.row == START else METHODS[spec.row], spec, start)


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    return planned_configs(METHODS, PRESETS[preset])


def run(preset: str, campaign: Campaign) -> dict[str, Any]:
    """Choose settings, run what is reported, write; see the module's docstring."""
    return finish("algorithms", preset, run_table(METHODS, PRESETS[preset], train, campaign), campaign)


def finish(benchmark: str, preset: str, runs: TableRuns, campaign: Campaign) -> dict[str, Any]:
    """Summarise and write a table of algorithms."""
    summary = {"sizes": runs.sizes, **summarise(runs.records), "tuning": runs.tuning}
    for name, row in summary["rows"].items():
        at_equal, at_end = row["accuracy"]["mean"], row["accuracy_end"]["mean"]
        print(f"{name:>20}: {at_equal:.3f} at equal tokens, {at_end:.3f} at the end")
    return write_result(campaign.out, benchmark, preset, runs.configs, by_seed(runs.records), summary, runs.commits)
