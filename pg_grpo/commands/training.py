"""The training commands: parse, build, train, save."""

import os
import sys
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import datasets
import transformers
from rich.console import Console
from transformers import PrinterCallback, Trainer, trainer
from trl import DatasetMixtureConfig

from dapo_ext.reporting.guards import TrainingGuards
from dapo_ext.reporting.progress import ProgressDisplay
from dapo_ext.reporting.run_log import METRICS_FILE, MetricsFile

from ..dpo_config import PGDPOConfig
from .arguments import RunParser, note
from .build import METHODS, build_trainer
from .launch import is_launched, is_main_process, launch
from .options import ModelArguments
from .precision import choose_precision


def run(command: str, arguments: list[str]) -> None:
    """
    Train as the options say, in this process or, when there are options of a launcher, in those it starts.

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
    tell = note if is_main_process() else _say_nothing
    parser = make_parser(command, tell)
    try:
        script, config, model, mixture = parser.parse(arguments)
        if parser.launch_arguments and not is_launched():
            launch(command, parser.rest_of(arguments), parser.launch_arguments)
            return
        is_new = not Path(config.output_dir).exists()
        callbacks = [
            MetricsFile(Path(config.output_dir) / METRICS_FILE),
            ProgressDisplay(_console(config), command),
            TrainingGuards(),
        ]
        trainer = build_trainer(METHODS[command], script, config, model, mixture, callbacks, tell)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if script.dry_run:
        from .dry_run import show_dry_run

        if trainer.is_world_process_zero():
            show_dry_run(Console(), trainer, script, model)
            if is_new:  # the host has made it
                Path(config.output_dir).rmdir()
    else:
        _train(trainer, config, script)
    trainer.end()


def make_parser(command: str, tell) -> RunParser:
    """The parser of a training command; `tell` is called with what the user should know."""
    method = METHODS[command]

    def amend(values: Namespace) -> None:
        choose_precision(values, tell)
        if method.config is PGDPOConfig and values.beta is not None and values.pg_beta == PGDPOConfig.pg_beta:
            values.pg_beta = values.beta  # a `trl dpo` file knows the factor by TRL's name

    return RunParser(
        (method.script, method.config, ModelArguments, DatasetMixtureConfig),
        prog=f"pg-grpo {command}",
        description=f"Train with {method.trainer.__name__}. Options of `accelerate launch`, such as `--num_processes`, "
        "are taken as well.",
        amend=amend,
    )


def _train(run: Trainer, config: Any, script: Any) -> None:
    run.remove_callback(trainer.DEFAULT_PROGRESS_CALLBACK)
    run.remove_callback(PrinterCallback)
    run.train(resume_from_checkpoint=config.resume_from_checkpoint)
    run.save_model(config.output_dir)
    # A path of this machine says nothing on the Hub
    dataset = None if script.dataset_name and os.path.exists(script.dataset_name) else script.dataset_name
    run.create_model_card(model_name=Path(config.output_dir).name, dataset_name=dataset)
    say = run.accelerator.print
    if run.stop_reason:
        say(f"Training ended early. {run.stop_reason}")
    say(f"The model and {METRICS_FILE} are in {config.output_dir}/ (`pg-grpo report {config.output_dir}` plots it)")
    if config.push_to_hub:
        run.push_to_hub(dataset_name=dataset)
        say(f"Pushed to https://huggingface.co/{run.hub_model_id}")


def _console(config: Any) -> Console:
    """Plain lines where a bar was turned off."""
    return Console(force_terminal=False if config.disable_tqdm else None)


def _say_nothing(message: str) -> None:
    """What the main process says need not be said again."""
