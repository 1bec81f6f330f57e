"""The demo: warm start, DAPO training and evaluation on the playground, offline, in a few minutes on two cores."""

import json
import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback

from .config import DAPOConfig
from .evaluation import Evaluation, evaluate
from .playground import correctness_reward, make_dataset, warm_start
from .reporting.guards import TrainingGuards
from .reporting.plots import plot_training
from .reporting.progress import ProgressDisplay, make_progress
from .reporting.run_log import MetricsFile, read_metrics
from .trainer import DAPOTrainer


MAX_COMPLETION_LENGTH = 48
# The longest right answer without a redo has 39 tokens: the punishment starts above it, at 41
SOFT_OVERLONG_CACHE = 8
MAX_STEPS = 120
HELD_OUT_PROMPTS = 512
SAMPLES_PER_PROMPT = 4
EVALUATIONS = 4  # of the curve, the first and the last included

OWN_MODEL = """\
from dapo_ext import DAPOConfig, DAPOTrainer
trainer = DAPOTrainer("Qwen/Qwen2.5-0.5B-Instruct", my_reward, DAPOConfig("my-run"), my_dataset)
trainer.train()"""


def demo_config(output_dir: str | Path, seed: int, max_steps: int = MAX_STEPS) -> DAPOConfig:
    """DAPO's setting for the playground: 64 prompts x 8 completions per generation, four updates on them."""
    return DAPOConfig(
        output_dir=str(output_dir),
        seed=seed,
        max_steps=max_steps,
        per_device_train_batch_size=128,
        steps_per_generation=4,
        num_generations=8,
        max_completion_length=MAX_COMPLETION_LENGTH,
        soft_overlong_cache=SOFT_OVERLONG_CACHE,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        # A policy of 0.3M parameters gains nothing from an accelerator, lower precision or recomputed activations
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def run_demo(output_dir: str | Path = "runs/demo", seed: int = 0, max_steps: int = MAX_STEPS) -> dict[str, Any]:
    """
    Train the playground's policy with DAPO and show what came of it.

    Writes `model/`, `metrics.jsonl`, `training.png` and `summary.json` into the output directory; a warm start that is
    already there is used again.

    Args:
        output_dir (`str` or `Path`, *optional*, defaults to `"runs/demo"`):
            Where the results go.
        seed (`int`, *optional*, defaults to `0`):
            Seed of warm start, training and evaluation.
        max_steps (`int`, *optional*, defaults to `120`):
            Optimizer steps of the training.

    Returns:
        `dict`: what `summary.json` holds.
    """
    started = time.perf_counter()
    _silence_libraries()
    console = Console()
    output_dir = Path(output_dir)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)  # for tensors this small, threads cost more than they gain

    console.print("[bold]1/3[/] Warm start: supervised training on an imperfect teacher's answers")
    policy_dir = _warm_start(console, output_dir / f"warm-start-seed{seed}", seed)
    console.print("[bold]2/3[/] DAPO: 64 informative groups of 8 completions per generation")
    trainer, accuracy = _train(console, policy_dir, output_dir, seed, max_steps)
    console.print("[bold]3/3[/] Results")
    trainer.save_model(str(output_dir / "model"))
    plot_training(
        read_metrics(output_dir / "metrics.jsonl"),
        output_dir / "training.png",
        {step: (result.avg_at_k, result.avg_at_k_interval) for step, result in accuracy.items()},
    )
    summary = _summarise(trainer, accuracy, seed, time.perf_counter() - started)
    (output_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    _show(console, summary, output_dir)
    return summary


def _silence_libraries() -> None:
    """Notices about the libraries' own future, and progress bars of files this small, would bury the display."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def _warm_start(console: Console, directory: Path, seed: int) -> Path:
    with make_progress(console) as progress:
        task = progress.add_task("Warm start", total=None, status="")

        def on_step(step: int, steps: int, loss: float) -> None:
            progress.update(task, completed=step, total=steps, status=f"loss {loss:.2f}")

        return warm_start(directory, seed=seed, on_step=on_step)


def _train(
    console: Console, policy_dir: Path, output_dir: Path, seed: int, max_steps: int
) -> tuple[DAPOTrainer, dict[int, Evaluation]]:
    """Train, with held-out accuracy before, after and in between; returns the latter by step."""
    tokenizer = AutoTokenizer.from_pretrained(policy_dir)
    held_out = make_dataset("held_out", HELD_OUT_PROMPTS, seed=seed)

    def measure(model) -> Evaluation:
        return evaluate(
            model,
            tokenizer,
            held_out,
            correctness_reward,
            k=SAMPLES_PER_PROMPT,
            max_completion_length=MAX_COMPLETION_LENGTH,
            seed=seed,
        )

    curve = _AccuracyCurve(measure, every=math.ceil(max_steps / (EVALUATIONS - 1)))
    trainer = DAPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(policy_dir),
        reward_funcs=correctness_reward,
        args=demo_config(output_dir, seed, max_steps),
        train_dataset=make_dataset("train", 4096, seed=seed),
        processing_class=tokenizer,
        callbacks=[
            MetricsFile(output_dir / "metrics.jsonl"),
            ProgressDisplay(console, "DAPO"),
            TrainingGuards(),
            curve,
        ],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return trainer, curve.results


class _AccuracyCurve(TrainerCallback):
    """Held-out accuracy at the beginning, every so many steps, and at the end."""

    def __init__(self, measure: Callable[[Any], Evaluation], every: int):
        self.measure = measure
        self.every = every
        self.results: dict[int, Evaluation] = {}

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.results[state.global_step] = self.measure(model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step % self.every == 0 and state.global_step < state.max_steps:
            self.results[state.global_step] = self.measure(model)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.results[state.global_step] = self.measure(model)


def _summarise(trainer: DAPOTrainer, accuracy: dict[int, Evaluation], seed: int, seconds: float) -> dict[str, Any]:
    before, after = accuracy[0], accuracy[trainer.state.global_step]
    assert trainer.sampler is not None  # dynamic sampling is on
    ledger = trainer.sampler.ledger
    return {
        "accuracy_before": before.avg_at_k,
        "accuracy_before_interval": list(before.avg_at_k_interval),
        "accuracy_after": after.avg_at_k,
        "accuracy_after_interval": list(after.avg_at_k_interval),
        "pass_at_k_before": before.pass_at_k[SAMPLES_PER_PROMPT],
        "pass_at_k_after": after.pass_at_k[SAMPLES_PER_PROMPT],
        "seconds": round(seconds, 1),
        "optimizer_steps": trainer.state.global_step,
        "generated_groups": ledger.generated_groups,
        "trained_groups": ledger.trained_groups,
        "informative_fraction": ledger.informative_fraction,
        "generated_tokens": ledger.generated_tokens,
        "seed": seed,
    }


def _show(console: Console, summary: dict[str, Any], output_dir: Path) -> None:
    def with_interval(name: str) -> str:
        low, high = summary[f"{name}_interval"]
        return f"{summary[name]:.3f}  [{low:.3f}, {high:.3f}]"

    table = Table(title="DAPO on the playground", title_justify="left", show_header=False)
    rows = {
        "held-out accuracy before": with_interval("accuracy_before"),
        "held-out accuracy after": with_interval("accuracy_after"),
        f"pass@{SAMPLES_PER_PROMPT} before, after": f"{summary['pass_at_k_before']:.3f}, "
        f"{summary['pass_at_k_after']:.3f}",
        "optimizer steps": f"{summary['optimizer_steps']}",
        "groups generated": f"{summary['generated_groups']:,}",
        "groups trained on": f"{summary['trained_groups']:,}",
        "of these informative": f"{summary['informative_fraction']:.0%}",
        "tokens generated": f"{summary['generated_tokens']:,}",
        "seconds": f"{summary['seconds']:.0f}",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    console.print(f"Model, metrics.jsonl, training.png and summary.json are in {output_dir}/", highlight=False)
    console.print("\nThe same with your own model:\n")
    console.print(OWN_MODEL, markup=False, soft_wrap=True)
