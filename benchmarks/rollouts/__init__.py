"""
What dynamic sampling costs, and what surplus and prompt selection save: six ways to fill a batch, on two pools.

- `plain`: TRL's trainer with DAPO's loss, no dynamic sampling
- `grpo`: TRL's trainer with loss "grpo" and a symmetric clip
- `uniform`: dynamic sampling, prompts in shuffled order
- `predictive`: dynamic sampling, prompts chosen by the running estimate of their pass rate
- `predictive_tokens`: the same with `selection_cost="tokens"`, the most informative prompts for their length
- `whole_batch`: dynamic sampling that refills with whole batches and drops the surplus, as the best-known recipe does

All of them train on 64 groups of 8 completions per generation, in four updates, without the overlong punishment, so
that the way the batch is filled is all that differs (and the loss, for `grpo`).
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PrinterCallback
from trl import GRPOTrainer

from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.curve import Curve
from benchmarks.harness.method_runs import load_policy, quiet
from benchmarks.harness.methods import NUM_GENERATIONS
from benchmarks.harness.pools import POOLS, train_prompts
from benchmarks.harness.results import write_result
from benchmarks.harness.run_spec import SETTING, RunSpec
from benchmarks.harness.tables import Campaign
from benchmarks.harness.worlds import PLAYGROUND, WORLDS
from benchmarks.rollouts.rows import POLICIES
from benchmarks.rollouts.summary import summarise


@dataclass(frozen=True)
class Preset:
    """How large the comparison is."""

    starts: tuple[int, ...]  # seeds of the warm starts
    steps: Mapping[str, int]  # optimizer updates on each pool
    evaluate_every: int
    held_out: int  # prompts
    curve_prompts: int  # how many of them the curve is measured on before the end
    samples: int  # completions per prompt on the curve; twice as many at the end
    world: str = PLAYGROUND.name
    learning_rate: float = SETTING["learning_rate"]


# 160 updates train 2,560 groups, four times the saturated pool
PRESETS = {
    "quick": Preset((0,), {"mixed": 16, "saturated": 16}, 8, 128, 128, 1),
    "full": Preset((0, 1), {"mixed": 96, "saturated": 160}, 16, 1024, 512, 2),
    "gpu": Preset((0,), {"mixed": 64, "saturated": 96}, 16, 1024, 256, 2, world="gpu-short", learning_rate=3e-5),
}


class LedgerCurve(Curve):
    """A curve that also says how many informative groups had been trained on."""

    trainer: GRPOTrainer

    def _measure(self, model, state, *args) -> None:
        super()._measure(model, state, *args)
        sampler = getattr(self.trainer, "sampler", None)
        # Without dynamic sampling every generated group is trained on, the dead ones too
        trained = self.counted.informative if sampler is None else sampler.ledger.informative_groups
        self.points[-1]["trained_informative"] = trained


def specs(preset: Preset, seeds: int) -> list[RunSpec]:
    """The runs, seed by seed, so that an interrupted campaign has whole seeds to show."""
    return [
        RunSpec(
            policy,
            start,
            seed,
            preset.steps[pool],
            preset.evaluate_every,
            settings(preset, policy),
            pool,
            preset.held_out,
            preset.curve_prompts,
            preset.samples,
            world=preset.world,
        )
        for seed in range(seeds)
        for start in preset.starts
        for pool in POOLS
        for policy in POLICIES
    ]


def settings(preset: Preset, policy: str) -> dict[str, Any]:
    """What a policy changes of `SETTING`."""
    return {"learning_rate": preset.learning_rate, **POLICIES[policy].settings_in(WORLDS[preset.world])}


def train(spec: RunSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    quiet()
    tokenizer = AutoTokenizer.from_pretrained(start)
    counted = CountedReward(NUM_GENERATIONS)
    curve = LedgerCurve(spec, tokenizer, counted)
    policy = POLICIES[spec.row]
    with tempfile.TemporaryDirectory() as directory:
        trainer = policy.trainer(
            model=load_policy(start, spec.where),
            reward_funcs=counted,
            args=policy.config(directory, seed=spec.seed, max_steps=spec.steps, **{**SETTING, **spec.changes}),
            train_dataset=train_prompts(spec.pool, spec.seed),
            processing_class=tokenizer,
            callbacks=[curve],
        )
        trainer.remove_callback(PrinterCallback)
        curve.trainer = trainer
        trainer.train()
    selection = [
        {name: value for name, value in entry.items() if name.startswith("prompt_selection/")} | {"step": entry["step"]}
        for entry in trainer.state.log_history
        if "prompt_selection/predicted_accept_rate" in entry
    ]
    return {"points": curve.points, "prompt_selection": selection, "stop_reason": getattr(trainer, "stop_reason", None)}


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds."""
    chosen = PRESETS[preset]
    return [(name, policy.config, {**SETTING, **settings(chosen, name)}) for name, policy in POLICIES.items()]


def run(preset: str, campaign: Campaign) -> dict[str, Any]:
    """Measure and write; see the module's docstring."""
    records = campaign.carry_out(specs(PRESETS[preset], campaign.seeds), train)
    summary = summarise(records)
    for pool in POOLS:
        for policy in POLICIES:
            row = summary[pool][policy]
            print(
                f"{pool:>9} {policy:>17}: {row['generated_per_trained']['mean']:.2f} groups per informative group "
                f"({row['generated_per_trained_second_half']['mean']:.2f} in the second half), accuracy "
                f"{row['accuracy_equal_steps']['mean']:.3f} at equal steps, {row['accuracy_equal_tokens']['mean']:.3f} "
                "at equal tokens"
            )
    built = {
        name: {"label": POLICIES[name].label, "trainer": POLICIES[name].trainer.__name__, **fields}
        for name, _, fields in configs(preset)
    }
    commits = [record.get("commit") for record in records]
    return write_result(campaign.out, "rollouts", preset, built, records, summary, commits)
