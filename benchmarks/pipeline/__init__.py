"""
What comes before reinforcement learning, and what can stand in for a verifier.

The warm start alone, the warm start followed by GRPO (TRL's), GRPO from untrained weights with as many updates and with
three times as many, and the way without a verifier: pairs of the warm start's own samples, a reward model trained on
them with TRL's `DPOTrainer`, whose implicit reward it is, and GRPO on its scores. Learning rates are chosen by as many
trials for every row, but for the longer run from untrained weights, which takes the shorter one's. All are measured by
the verifier.
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

from trl import DPOConfig, GRPOConfig, GRPOTrainer, RewardConfig

from benchmarks.harness.method_runs import START, MethodSpec, train_method
from benchmarks.harness.methods import Method, on_policy
from benchmarks.harness.paired import by_seed
from benchmarks.harness.results import write_result
from benchmarks.harness.tables import Campaign, Preset, TableRuns, planned_configs, run_table
from benchmarks.harness.worlds import WORLDS, World
from benchmarks.pipeline.reward_model import PROMPTS_PER_UPDATE, LearnedReward, reward_settings, train_reward_model
from benchmarks.pipeline.scalar_head import scalar_head_settings
from benchmarks.pipeline.summary import LONG, RL, SCRATCH, WITH_REWARD_MODEL, summarise
from dapo_ext.playground import build_policy, build_tokenizer


TIMES = 3  # as many updates in the longer run from untrained weights
SETTINGS = {**on_policy(8), "loss_type": "grpo"}
LABELS = {
    RL: "warm start, then GRPO",
    SCRATCH: "GRPO from untrained weights",
    LONG: f"GRPO from untrained weights, {TIMES} times the updates",
    WITH_REWARD_MODEL: "warm start, pairs, reward model, GRPO",
}
METHODS = {name: Method(label, GRPOTrainer, GRPOConfig, SETTINGS) for name, label in LABELS.items()}
PRESETS = {
    "quick": Preset((RL, SCRATCH, WITH_REWARD_MODEL), (0,), (1e-4,), 16, 16, 256, 64, 1),
    "full": Preset(tuple(METHODS), (0, 1), (3e-5, 1e-4, 3e-4, 9e-4, 2.7e-3), 160, 40, 1024, 512, 2),
    "gpu": Preset(tuple(METHODS), (0,), (2e-5, 6e-5), 64, 32, 1024, 128, 2, world="gpu"),
}


def train(spec: MethodSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    if spec.row == START:
        return train_method(None, spec, start)
    method = METHODS[spec.row]
    with tempfile.TemporaryDirectory() as directory:
        if spec.row in (SCRATCH, LONG):
            start = _untrained(spec.where, spec.start, Path(directory) / "untrained")
            steps = spec.steps * (TIMES if spec.row == LONG else 1)
            return train_method(method, dataclasses.replace(spec, steps=steps), start)
        if spec.row == WITH_REWARD_MODEL:
            prompts = PROMPTS_PER_UPDATE * spec.steps
            is_reported = spec.split == "held_out"
            model, figures = train_reward_model(start, spec.where, spec.seed, Path(directory), prompts, is_reported)
            return train_method(method, spec, start, reward=lambda counted: LearnedReward(model, counted)) | figures
        return train_method(method, spec, start)


def _untrained(world: World, seed: int, directory: Path) -> Path:
    """The weights that the warm start of this seed began with."""
    policy = build_policy(seed, **world.warm_start.get("policy", {}))
    policy.save_pretrained(directory)
    build_tokenizer().save_pretrained(directory)
    return directory


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    world = WORLDS[PRESETS[preset].world]
    return [
        *planned_configs(METHODS, PRESETS[preset]),
        ("reward model", DPOConfig, reward_settings(world)),
        ("scalar head", RewardConfig, scalar_head_settings(world)),
    ]


def _carry_out(preset: Preset, campaign: Campaign) -> TableRuns:
    """All rows, the longest run without trials of its own: they would be the larger part of all trials."""
    tuned = dataclasses.replace(preset, methods=tuple(name for name in preset.methods if name != LONG))
    runs = run_table(METHODS, tuned, train, campaign)
    if LONG not in preset.methods:
        return runs
    rate = runs.configs[SCRATCH]["learning_rate"]
    taken_over = dataclasses.replace(preset, methods=(LONG,), rates=(rate,))
    longer = run_table(METHODS, taken_over, train, campaign)
    records = runs.records + [record for record in longer.records if record["spec"]["row"] == LONG]
    configs = runs.configs | longer.configs
    return dataclasses.replace(
        runs,
        records=records,
        configs={name: configs[name] for name in preset.methods},
        sizes={**runs.sizes, "methods": preset.methods},
    )


def run(preset: str, campaign: Campaign) -> dict[str, Any]:
    """Choose learning rates, train, write; see the module's docstring."""
    runs = _carry_out(PRESETS[preset], campaign)
    configs = dict(runs.configs)
    if LONG in configs:
        configs[LONG] = {**configs[LONG], "max_steps": TIMES * runs.sizes["steps"]}
    if WITH_REWARD_MODEL in configs:
        model = {"label": "reward model", "trainer": "DPOTrainer", "prompts_per_update": PROMPTS_PER_UPDATE}
        configs["reward-model"] = {**model, **reward_settings(WORLDS[PRESETS[preset].world])}
    summary = {"sizes": runs.sizes, **summarise(runs.records), "tuning": runs.tuning}
    for name, row in summary["rows"].items():
        print(f"{name:>18}: {row['accuracy_end']['mean']:.3f}")
    return write_result(campaign.out, "pipeline", preset, configs, by_seed(runs.records), summary, runs.commits)
