"""
GRPO, GSPO, DAPO, PG-GRPO, DPO and PG-DPO from one warm start, off-policy, at equal generated tokens.

On-policy methods generate 64 prompts x 8 completions at a time and take 8 optimizer updates of 64 completions on them.
The offline methods take as many updates, of 32 pairs, on pairs made from the warm start's own samples; the tokens of
these samples are what they generated. Two stages: every method's learning rate is chosen by the same trials on the
tuning split, from a seed that is not reported; then the reported seeds run and are measured on the held-out split.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerState
from trl.trainer.utils import entropy_from_logits, pad

from benchmarks.algorithm_rows import (
    METHODS,
    NUM_GENERATIONS,
    PROMPTS_PER_GENERATION,
    UPDATES_PER_GENERATION,
    Method,
)
from benchmarks.algorithm_summary import choose_rates, clip_shares, summarise
from benchmarks.playground_runs import MAX_COMPLETION_LENGTH, CountedReward, Curve, RunSpec, run_all
from benchmarks.pools import train_prompts
from benchmarks.results import write_result
from dapo_ext import evaluate
from pg_grpo import sample_pairs


@dataclass(frozen=True)
class Preset:
    """How large the comparison is."""

    methods: tuple[str, ...]
    starts: tuple[int, ...]  # seeds of the warm starts
    rates: tuple[float, ...]  # learning rates tried
    steps: int  # optimizer updates
    evaluate_every: int
    held_out: int  # prompts, of the tuning split too
    curve_prompts: int
    samples: int  # completions per prompt on the curve; twice as many at the end


# Learning rates tried, the same for every method
RATES = (2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4)
FEW_RATES = (1e-4, 3e-4)
PRESETS = {
    "quick": Preset(("grpo", "pg-grpo-0.1", "dpo", "pg-dpo"), (0,), FEW_RATES, 16, 8, 256, 64, 1),
    "small": Preset(tuple(name for name in METHODS if name != "pg-grpo-0.03"), (0,), FEW_RATES, 64, 32, 512, 256, 2),
    "full": Preset(tuple(METHODS), (0, 1), RATES, 160, 40, 1024, 1024, 2),
}
START = "start"  # the row that trains nothing
TUNING_SEED = 1000  # of the trials' prompts, samples and shuffling; none of the reported ones
# On-policy runs grow shorter or longer as they learn; the offline methods' samples are meant to stay within the tokens
# of the shortest, so that the offline methods are never given more
OFFLINE_SHARE = 0.75
ENTROPY_PROMPTS = 256


class MethodSpec(RunSpec):
    """A run whose file also says its split and learning rate."""

    @property
    def key(self) -> str:
        return f"{super().key}-{self.split}-lr{self.changes.get('learning_rate', 0):g}"


def trial_specs(preset: Preset) -> list[MethodSpec]:
    """The trials: every learning rate, for every method, on the tuning split; measured at the end alone."""
    return [
        MethodSpec(
            name,
            preset.starts[0],
            TUNING_SEED,
            preset.steps,
            evaluate_every=preset.steps,
            changes={**METHODS[name].settings, "learning_rate": rate},
            held_out=preset.held_out,
            curve_prompts=min(64, preset.held_out),
            samples=1,
            split="tuning",
        )
        for name in preset.methods
        for rate in preset.rates
    ]


def reported_specs(preset: Preset, rates: Mapping[str, float], seeds: int) -> list[MethodSpec]:
    """The reported runs with the chosen learning rates, and the warm starts themselves."""
    sizes = {name: getattr(preset, name) for name in ("evaluate_every", "held_out", "curve_prompts", "samples")}
    warm_starts = [MethodSpec(START, start, seed=0, steps=0, **sizes) for start in preset.starts]
    return warm_starts + [
        MethodSpec(
            name,
            start,
            seed,
            preset.steps,
            changes={**METHODS[name].settings, "learning_rate": rates[name]},
            **sizes,
        )
        for seed in range(seeds)
        for start in preset.starts
        for name in preset.methods
    ]


def train(spec: RunSpec, start: Path) -> dict[str, Any]:
    """Carry out one run; what is measured beyond the curve: clip shares, and the policy's entropy at the end."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(start)
    model = AutoModelForCausalLM.from_pretrained(start)
    counted = CountedReward(NUM_GENERATIONS)
    curve = Curve(spec, tokenizer, counted)
    record: dict[str, Any] = {"points": curve.points}
    if spec.row == START:
        curve.on_train_begin(None, TrainerState(), None, model=model)
        curve.on_train_end(None, TrainerState(), None, model=model)
    else:
        method = METHODS[spec.row]
        dataset = train_prompts(spec.pool, spec.seed)
        rewards: dict[str, Any] = {"reward_funcs": counted}
        if method.is_offline:
            rewards = {}
            dataset = sample_pairs(
                model,
                tokenizer,
                _sampled_prompts(dataset, spec.steps),
                counted,
                k=NUM_GENERATIONS,
                max_completion_length=MAX_COMPLETION_LENGTH,
                batch_size=512,
                seed=spec.seed,
            )
            record["pairs"] = len(dataset)
        with tempfile.TemporaryDirectory() as directory:
            trainer = _build_trainer(method, spec, directory, model, tokenizer, dataset, curve, rewards)
            trainer.train()
        record["clip"] = clip_shares(trainer.state.log_history, spec.steps)
        record["stop_reason"] = getattr(trainer, "stop_reason", None)
    return record | {
        "entropy": mean_entropy(model, tokenizer, curve.held_out.select(range(min(ENTROPY_PROMPTS, spec.held_out))))
    }


def _build_trainer(method: Method, spec: RunSpec, directory: str, model, tokenizer, dataset, curve, rewards):
    trainer = method.trainer(
        model=model,
        args=method.config(directory, seed=spec.seed, max_steps=spec.steps, **spec.changes),
        train_dataset=dataset,
        processing_class=tokenizer,
        callbacks=[curve],
        **rewards,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _sampled_prompts(dataset: Dataset, steps: int) -> Dataset:
    """The first of the prompts that an on-policy run of as many updates trains on."""
    prompts = steps * PROMPTS_PER_GENERATION // UPDATES_PER_GENERATION
    return dataset.select(range(round(OFFLINE_SHARE * prompts)))


@torch.no_grad()
def mean_entropy(model, tokenizer, prompts: Dataset) -> float:
    """Entropy of the policy at the tokens it samples, in nats per token: the mean over one completion per prompt."""
    completions: list[list[int]] = []

    def keep(completion_ids, **columns) -> list[float]:
        completions.extend(completion_ids)
        return [0.0] * len(completion_ids)

    evaluate(model, tokenizer, prompts, keep, k=1, max_completion_length=MAX_COMPLETION_LENGTH, batch_size=512)
    prompt_ids = tokenizer(list(prompts["prompt"]))["input_ids"]
    rows = [torch.tensor(before + after) for before, after in zip(prompt_ids, completions, strict=True)]
    counts = [torch.arange(len(row)) >= len(before) for row, before in zip(rows, prompt_ids, strict=True)]
    model.eval()
    # Padding is on the right, where causal attention never sees it
    logits = model(pad(rows, padding_value=tokenizer.pad_token_id)).logits[:, :-1]
    return entropy_from_logits(logits)[pad(counts, padding_value=0)[:, 1:].bool()].mean().item()


def run(preset: str, seeds: int, out: str, jobs: int, warm_starts: str) -> dict[str, Any]:
    """Choose learning rates, run what is reported, write; see the module's docstring."""
    settings = PRESETS[preset]
    store = Path(out).with_suffix(".runs")
    trials = run_all(trial_specs(settings), train, store, Path(warm_starts), jobs)
    rates = choose_rates(trials)
    for name, rate in rates.items():
        print(f"{name}: learning rate {rate:g}")
    records = run_all(reported_specs(settings, rates, seeds), train, store, Path(warm_starts), jobs)
    configs = {
        name: {
            "label": METHODS[name].label,
            "trainer": METHODS[name].trainer.__name__,
            **METHODS[name].settings,
            "learning_rate": rates[name],
        }
        for name in settings.methods
    }
    summary = {"sizes": asdict(settings), **summarise(trials, records)}
    for name, row in summary["rows"].items():
        print(
            f"{name:>20}: {row['accuracy']['mean']:.3f} at equal tokens, {row['accuracy_end']['mean']:.3f} at the end"
        )
    return write_result(out, "algorithms", preset, configs, _by_seed(records), summary)


def _by_seed(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One entry per warm start and seed, each with its runs by row."""
    entries: dict[tuple[int, int], dict[str, Any]] = {}
    for record in records:
        spec = record["spec"]
        entry = entries.setdefault(
            (spec["start"], spec["seed"]), {"start": spec["start"], "seed": spec["seed"], "rows": {}}
        )
        entry["rows"][spec["row"]] = {name: value for name, value in record.items() if name != "spec"}
    return list(entries.values())
