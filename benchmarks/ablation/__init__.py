"""
DAPO's ladder in the paper's order, prompt selection on top of it, and each technique left out of the whole.

Naive GRPO is TRL's own trainer. The setting is made so that every technique has something to act on: the warm start
writes four steps in ten twice, so that many completions reach the limit and lengths differ; the punished interval
begins just above the longest right answer without a repeated step; a generation of 512 completions is trained on in 16
updates, as in the paper; and a pool of 640 prompts with 2 to 10 terms holds solved and hopeless ones. One learning rate
for all rows, as in the paper: between what suits GRPO and what suits DAPO best (`python -m benchmarks algorithms`). The
quick preset has a larger one, so that its few updates show whether anything is learnt.
"""

from pathlib import Path
from typing import Any

from benchmarks.ablation.overlong import CountedOverlong
from benchmarks.ablation.rows import LEFT_OUT, METHODS, NAIVE
from benchmarks.ablation.summary import summarise
from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.method_runs import START, MethodSpec, train_method
from benchmarks.harness.paired import by_seed
from benchmarks.harness.results import write_result
from benchmarks.harness.tables import Campaign, Preset, planned_configs, run_table
from benchmarks.page.markdown import share


POOL_SIZE = 640
RATE = (1.5e-4,)
ALL = tuple(METHODS)
SOME = (NAIVE, "token-level", "dynamic-sampling", f"{LEFT_OUT}clip-higher")
PRESETS = {
    "quick": Preset(SOME, (0,), (3e-4,), 96, 48, 256, 64, 1, world="redo", token_budget=80_000),
    "full": Preset(ALL, (0, 1), RATE, 400, 80, 1024, 512, 2, world="redo", token_budget=300_000),
    "gpu": Preset(ALL, (0,), (4e-5,), 128, 64, 1024, 128, 2, world="gpu-redo", token_budget=250_000),
}


def train(spec: MethodSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    pool = spec.where.dataset("train", POOL_SIZE, spec.seed)
    overlong: list[CountedOverlong] = []

    def reward(counted: CountedReward) -> CountedOverlong:
        overlong.append(CountedOverlong(counted, spec.where.max_completion_length))
        return overlong[0]

    record = train_method(None if spec.row == START else METHODS[spec.row], spec, start, pool, reward)
    return record | (overlong[0].shares() if overlong else {})


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    return planned_configs(METHODS, PRESETS[preset])


def run(preset: str, campaign: Campaign) -> dict[str, Any]:
    """Train every row and write; see the module's docstring."""
    runs = run_table(METHODS, PRESETS[preset], train, campaign)
    summary = {"sizes": runs.sizes, **summarise(runs.records)}
    for name, row in summary["rows"].items():
        clipped = ", ".join(f"{side} {share(row['clip'].get(side))}" for side in ("low", "high"))
        print(f"{name:>28}: {row['accuracy_end']['mean']:.3f}, clipped {clipped}")
    return write_result(campaign.out, "ablation", preset, runs.configs, by_seed(runs.records), summary, runs.commits)
