"""What a run would do, counted before it does anything."""

import dataclasses
import math
from collections.abc import Sized
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table
from transformers import Trainer

from dapo_ext import DAPOConfig
from dapo_ext.reporting.settings import default_of, settings


def show_dry_run(console: Console, trainer: Trainer, script: Any, model: Any, mixture: Any) -> None:
    """Print the resolved configuration and the batch arithmetic of a trainer that is about to train."""
    quantization = {"use_bnb_nested_quant": model.use_bnb_nested_quant} if model.load_in_4bit else {}
    options = {**_changed(script), **_changed(mixture), **_changed(model)}
    resolved = {**options, **quantization, **settings(trainer.args)}
    console.print("# Resolved configuration (what is not listed is at TRL's default or follows)", highlight=False)
    listed = yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=1000)
    console.print(listed, markup=False, highlight=False, soft_wrap=True)
    table = Table(title="Batch arithmetic", title_justify="left", show_header=False)
    arithmetic = batch_arithmetic(trainer)
    for name, value in arithmetic.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)
    console.print("Nothing was trained: this was a dry run.")


def batch_arithmetic(trainer: Trainer) -> dict[str, int | str]:
    """
    How much of what makes up an optimizer step, a generation and the whole run.

    Args:
        trainer ([`~transformers.Trainer`]):
            One of the project's trainers.

    Returns:
        `dict[str, int | str]`: counts by what they count, over all processes. Tokens are upper bounds.
    """
    args, dataset = trainer.args, trainer.train_dataset
    steps = trainer.set_initial_training_values(args, trainer.get_train_dataloader())[-1]
    parameters = list(trainer.model.parameters())
    rows = {
        "parameters": sum(each.numel() for each in parameters),
        "of these trained": sum(each.numel() for each in parameters if each.requires_grad),
        "rows of the dataset": len(dataset) if isinstance(dataset, Sized) else "unknown (streamed)",
        "processes": args.world_size,
    }
    per_step = args.per_device_train_batch_size * args.world_size * args.gradient_accumulation_steps
    if isinstance(args, DAPOConfig):
        return {**rows, **_of_groups(args, per_step, steps)}
    return {**rows, **_of_pairs(args, per_step, steps)}


def _of_groups(args: DAPOConfig, per_step: int, steps: int) -> dict[str, int | str]:
    completions = args.generation_batch_size
    groups = completions // args.num_generations
    updates = args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps
    most = int(args.generation_budget * groups) if args.dynamic_sampling else groups
    return {
        "prompts (groups) per generation": groups,
        "completions per group": args.num_generations,
        "completions per generation": completions,
        "groups generated for one batch, at most": most,
        "optimizer steps (updates) per generation": updates,
        "completions per optimizer step": per_step,
        **_of_tokens(args.max_completion_length, completions, most * args.num_generations),
        "optimizer steps": steps,
        "generations": math.ceil(steps / updates) if updates else "unknown",
        "prompts trained on": math.ceil(steps / updates) * groups if updates else "unknown",
    }


def _of_tokens(longest: int | None, trained: int, generated: int) -> dict[str, int | str]:
    return {
        "completion tokens per generation trained on, at most": "unknown" if longest is None else trained * longest,
        "completion tokens generated for one batch, at most": "unknown" if longest is None else generated * longest,
    }


def _of_pairs(args: Any, per_step: int, steps: int) -> dict[str, int | str]:
    scored = int(args.pair_budget * per_step) if args.dynamic_pairs else per_step
    rows: dict[str, int | str] = {
        "pairs per optimizer step": per_step,
        "pairs scored for one optimizer step, at most": scored,
        "optimizer steps": steps,
        "pairs trained on": steps * per_step,
    }
    if args.max_length is not None:
        rows["tokens per optimizer step, at most"] = 2 * per_step * args.max_length
    return rows


def _changed(options: Any) -> dict[str, Any]:
    """Fields of a dataclass, and of those in it, that differ from their defaults."""
    default = {field.name: default_of(field) for field in dataclasses.fields(options)}
    changed = {name: getattr(options, name) for name in default if name != "dry_run"}
    return {name: _plain(value) for name, value in changed.items() if value != default[name]}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return _changed(value) if dataclasses.is_dataclass(value) else value
