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

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from trl import GRPOConfig, GRPOTrainer

from benchmarks.harness.playground_runs import SETTING, CountedReward, Curve, RunSpec, at, run_all
from benchmarks.harness.pools import train_prompts
from benchmarks.harness.results import interval, write_result
from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.sampling.prompt_sources import RoundPrompts, UniformPrompts


NUM_GENERATIONS = 8
BATCH_GROUPS = 64
POOLS = ("mixed", "saturated")
SAMPLING = {"dynamic_sampling": True, "soft_overlong_cache": 0}


class WholeBatchPrompts(UniformPrompts):
    """Refills with as many groups as a batch has, however few are missing."""

    def refill(self, missing: int, most: int) -> RoundPrompts | None:
        return super().refill(self._share.batch_groups, most)


class WholeBatchTrainer(DAPOTrainer):
    """[`~dapo_ext.DAPOTrainer`] that refills with whole batches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        uniform = self.sampler.prompts
        self.sampler.prompts = WholeBatchPrompts(uniform.stream, uniform._share, uniform._gather_object)


@dataclass(frozen=True)
class Policy:
    """One way to fill a batch."""

    trainer: type
    config: type
    settings: Mapping[str, Any]


POLICIES = {
    "plain": Policy(GRPOTrainer, GRPOConfig, {"loss_type": "dapo", "epsilon_high": 0.28}),
    "grpo": Policy(GRPOTrainer, GRPOConfig, {"loss_type": "grpo"}),
    "uniform": Policy(DAPOTrainer, DAPOConfig, SAMPLING),
    "predictive": Policy(DAPOTrainer, DAPOConfig, {**SAMPLING, "prompt_selection": "predictive"}),
    "predictive_tokens": Policy(
        DAPOTrainer, DAPOConfig, {**SAMPLING, "prompt_selection": "predictive", "selection_cost": "tokens"}
    ),
    "whole_batch": Policy(WholeBatchTrainer, DAPOConfig, {**SAMPLING, "carry_surplus": False}),
}
BASELINE = "grpo"


@dataclass(frozen=True)
class Preset:
    """How large the comparison is."""

    starts: tuple[int, ...]  # seeds of the warm starts
    steps: Mapping[str, int]  # optimizer updates on each pool
    evaluate_every: int
    held_out: int  # prompts
    curve_prompts: int  # how many of them the curve is measured on before the end
    samples: int  # completions per prompt on the curve; twice as many at the end


# 160 updates train 2,560 groups, four times the saturated pool
PRESETS = {
    "quick": Preset((0,), {"mixed": 16, "saturated": 16}, 8, 128, 128, 1),
    "full": Preset((0, 1), {"mixed": 96, "saturated": 160}, 16, 1024, 512, 2),
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
            {"learning_rate": SETTING["learning_rate"], **POLICIES[policy].settings},
            pool,
            preset.held_out,
            preset.curve_prompts,
            preset.samples,
        )
        for seed in range(seeds)
        for start in preset.starts
        for pool in POOLS
        for policy in POLICIES
    ]


def train(spec: RunSpec, start: Path) -> dict[str, Any]:
    """Carry out one run."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(start)
    counted = CountedReward(NUM_GENERATIONS)
    curve = LedgerCurve(spec, tokenizer, counted)
    policy = POLICIES[spec.row]
    with tempfile.TemporaryDirectory() as directory:
        trainer = policy.trainer(
            model=AutoModelForCausalLM.from_pretrained(start),
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


def measure(points: Sequence[Mapping[str, float]], baseline: Sequence[Mapping[str, float]], tokens: float) -> dict:
    """
    Figures of one run.

    Args:
        points (`Sequence[Mapping]`):
            The run's curve.
        baseline (`Sequence[Mapping]`):
            The curve of `grpo` with the same warm start and seed.
        tokens (`float`):
            Generated tokens at which accuracies are compared.

    Returns:
        `dict`: `generated_per_trained` counts generated groups for each informative group trained on, over the run and
        over its second half; `time_to_baseline` and `tokens_to_baseline` are `None` for a run that never reaches the
        baseline's final accuracy.
    """
    last, steps = points[-1], points[-1]["step"]
    half = {name: at(points, "step", steps / 2, name) for name in ("generated_groups", "trained_informative")}
    goal = baseline[-1]["accuracy"]
    return {
        "generated_per_trained": last["generated_groups"] / last["trained_informative"],
        "generated_per_trained_second_half": (last["generated_groups"] - half["generated_groups"])
        / (last["trained_informative"] - half["trained_informative"]),
        "accept_rate": last["informative_groups"] / last["generated_groups"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "cpu_seconds": last["cpu_seconds"],
        "accuracy_equal_steps": last["accuracy"],
        "accuracy_equal_tokens": at(points, "tokens", tokens),
        "accuracy_equal_time": at(points, "seconds", baseline[-1]["seconds"]),
        "time_to_baseline": first_reaching(points, goal, "seconds"),
        "tokens_to_baseline": first_reaching(points, goal, "tokens"),
    }


def first_reaching(points: Sequence[Mapping[str, float]], accuracy: float, axis: str) -> float | None:
    """Where a curve first reaches an accuracy, by linear interpolation between its points; None if it never does."""
    for before, after in itertools.pairwise(points):
        if after["accuracy"] >= accuracy:
            share = (accuracy - before["accuracy"]) / (after["accuracy"] - before["accuracy"])
            return before[axis] + max(share, 0.0) * (after[axis] - before[axis])
    return None


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means, and differences paired by warm start and seed, with 95 % intervals, by pool and policy."""
    summary: dict[str, Any] = {}
    for pool in POOLS:
        runs = {
            (record["spec"]["row"], record["spec"]["start"], record["spec"]["seed"]): record["points"]
            for record in records
            if record["spec"]["pool"] == pool
        }
        tokens = min(points[-1]["tokens"] for points in runs.values())
        pairs = sorted({key[1:] for key in runs})
        figures = {
            policy: [measure(runs[policy, *pair], runs[BASELINE, *pair], tokens) for pair in pairs]
            for policy in POLICIES
        }
        summary[pool] = {policy: _means(rows) for policy, rows in figures.items()}
        for policy, rows in figures.items():
            summary[pool][policy]["paired"] = {
                f"{name}_minus_{other}": _difference(rows, figures[other], name)
                for name, other in COMPARISONS
                if other != policy
            }
            summary[pool][policy]["speed_up"] = _speed_up(rows, figures[BASELINE])
        summary[pool]["equal_tokens"] = tokens
    return summary


# (figure, policy it is compared with)
COMPARISONS = (
    ("accuracy_equal_steps", "uniform"),
    ("accuracy_equal_tokens", "plain"),
    ("accuracy_equal_tokens", "uniform"),
    ("accuracy_equal_time", "plain"),
)


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    means: dict[str, Any] = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row[name] is not None]
        means[name] = interval(values) if values else {"mean": None, "interval": None, "values": 0}
    return means


def _difference(rows, others, name: str) -> dict[str, Any]:
    return interval([row[name] - other[name] for row, other in zip(rows, others, strict=True)])


def _speed_up(rows, baseline) -> dict[str, Any]:
    """Baseline's seconds, and tokens, over those it took to reach the baseline's final accuracy."""
    ratios = {}
    for own, whole in (("time_to_baseline", "seconds"), ("tokens_to_baseline", "tokens")):
        values = [base[whole] / row[own] for row, base in zip(rows, baseline, strict=True) if row[own] is not None]
        ratios[own] = interval(values) if values else {"mean": None, "interval": None, "values": 0}
    return ratios


def run(preset: str, seeds: int, out: str, jobs: int, warm_starts: str) -> dict[str, Any]:
    """Measure and write; see the module's docstring."""
    settings = PRESETS[preset]
    store = Path(out).with_suffix(".runs")
    records = run_all(specs(settings, seeds), train, store, Path(warm_starts), jobs)
    summary = summarise(records)
    for pool in POOLS:
        for policy in POLICIES:
            row = summary[pool][policy]
            print(
                f"{pool:>9} {policy:>11}: {row['generated_per_trained']['mean']:.2f} groups per informative group "
                f"({row['generated_per_trained_second_half']['mean']:.2f} in the second half), accuracy "
                f"{row['accuracy_equal_steps']['mean']:.3f} at equal steps, {row['accuracy_equal_tokens']['mean']:.3f} "
                "at equal tokens"
            )
    configs = {
        policy: {"trainer": entry.trainer.__name__, **SETTING, **entry.settings} for policy, entry in POLICIES.items()
    }
    commits = [record.get("commit") for record in records]
    return write_result(out, "rollouts", preset, configs, records, summary, commits)
