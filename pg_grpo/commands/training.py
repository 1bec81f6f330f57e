"""The training commands: parse, build, train, save."""

import os
import sys
import warnings
from argparse import SUPPRESS, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from rich.console import Console
from transformers import PrinterCallback, Trainer
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK
from trl import DatasetMixtureConfig

from dapo_ext.refusals import Refusal
from dapo_ext.reporting.guards import TrainingGuards
from dapo_ext.reporting.progress import ProgressDisplay
from dapo_ext.reporting.run_log import METRICS_FILE, MetricsFile

from ..dpo_config import PGDPOConfig
from .arguments import RunParser, drop_note, print_note
from .build import METHODS, build_trainer, find_rewards
from .launch import OtherProcesses, is_launched, is_main_process, launch
from .options import ModelArguments
from .precision import choose_precision


def run(command: str, arguments: list[str]) -> None:
    """
    Train as the options say, in this process or, with options of a launcher or several accelerators, in those that
    `accelerate launch` starts.

    Args:
        command (`str`):
            `"dapo"`, `"pggrpo"` or `"pgdpo"`.
        arguments (`list[str]`):
            The options.
    """
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # of its own future fields
    transformers.logging.disable_progress_bar()  # of weights being read
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    note = print_note if is_main_process() else drop_note
    parser = make_parser(command, note)
    with parser.in_one_line(ValueError, OSError):
        try:
            script, config, model, mixture = parser.parse(arguments)
        except OtherProcesses:
            launch(command, parser.rest_of(arguments), parser.launch_arguments)
            return
    with parser.in_one_line(Refusal):  # modules of the user's are imported, whose errors need their traceback
        rewards = find_rewards(script)
    is_new = not Path(config.output_dir).exists()
    callbacks = [
        MetricsFile(Path(config.output_dir) / METRICS_FILE),
        ProgressDisplay(_console(config), command),
        TrainingGuards(),
    ]
    with parser.in_one_line(ValueError, OSError):
        trainer = build_trainer(METHODS[command], rewards, script, config, model, mixture, callbacks, note)
    if script.dry_run:
        from .dry_run import show_dry_run

        if trainer.is_world_process_zero():
            show_dry_run(Console(), trainer, script, model, mixture)
            if is_new:  # the host has made it
                _remove_empty_folders(config.output_dir)
    else:
        with parser.in_one_line(Refusal):
            _train(trainer, config, script)
    trainer.end()


def make_parser(command: str, note: Callable[[str], None]) -> RunParser:
    """The parser of a training command; `note` is called with what the user should know."""
    method = METHODS[command]

    def amend(values: Namespace) -> None:
        choose_precision(values, note)
        devices = 1 if values.use_cpu else torch.accelerator.device_count()
        if (parser.launch_arguments or devices > 1) and not is_launched():
            if not parser.launch_arguments:
                note(f"{devices} accelerators: `accelerate launch` is started. Batch sizes are those of one process.")
            raise OtherProcesses
        for name in ("model_name_or_path", "dataset_name"):  # no shell has seen those of a file
            if getattr(values, name):
                setattr(values, name, os.path.expanduser(getattr(values, name)))
        values.resume_from_checkpoint = _checkpoint(values.resume_from_checkpoint)
        if method.config is PGDPOConfig and not hasattr(values, "pg_beta"):
            # A `trl dpo` file knows the factor by TRL's name
            values.pg_beta = PGDPOConfig.pg_beta if values.beta is None else values.beta

    parser = RunParser(
        (method.script, method.config, ModelArguments, DatasetMixtureConfig),
        prog=f"pg-grpo {command}",
        description=f"Train with {method.trainer.__name__}. Options of `accelerate launch`, such as `--num_processes`, "
        "are taken as well.",
        amend=amend,
    )
    if method.config is PGDPOConfig:
        parser.set_defaults_with_config(pg_beta=SUPPRESS)  # so that it is known whether it was given
    return parser


def _checkpoint(value: str | bool | None) -> str | bool | None:
    """A checkpoint's folder, or whether to resume from the newest; on a command line a word for it."""
    if not isinstance(value, str):
        return value
    return {"true": True, "false": None, "": None}.get(value.lower(), os.path.expanduser(value))


def _train(trainer: Trainer, config: Any, script: Any) -> None:
    trainer.remove_callback(DEFAULT_PROGRESS_CALLBACK)
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=config.resume_from_checkpoint)
    trainer.save_model(config.output_dir)
    # A path of this machine says nothing on the Hub
    dataset = None if script.dataset_name and os.path.exists(script.dataset_name) else script.dataset_name
    trainer.create_model_card(model_name=Path(config.output_dir).name, dataset_name=dataset)
    say = trainer.accelerator.print
    if trainer.stop_reason:
        say(f"Training ended early. {trainer.stop_reason}")
    say(f"The model and {METRICS_FILE} are in {config.output_dir}/ (`pg-grpo report {config.output_dir}` plots it)")
    if config.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset)
        say(f"Pushed to https://huggingface.co/{trainer.hub_model_id}")


def _console(config: Any) -> Console:
    """Plain lines where a bar was turned off."""
    return Console(force_terminal=False if config.disable_tqdm else None)


def _remove_empty_folders(top: str) -> None:
    for folder, _, _ in os.walk(top, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)
