"""The options of `accelerate launch` beside those of a training, as `trl` takes them."""

import os

from accelerate.commands.launch import launch_command, launch_command_parser
from trl.cli.accelerate_config import resolve_accelerate_config_argument


class OtherProcesses(Exception):
    """The training is for processes that a launcher starts; what depends on their number cannot be checked in this."""


def is_launched() -> bool:
    """Whether this process was started by accelerate or torchrun, so that it must not start others."""
    return "ACCELERATE_MIXED_PRECISION" in os.environ or "LOCAL_RANK" in os.environ


def is_main_process() -> bool:
    """Whether this process speaks for all, before there is a process group to ask."""
    return os.environ.get("RANK", "0") == "0"


def launch(command: str, arguments: list[str], launch_arguments: list[str]) -> None:
    """
    Run the training command in the processes that `accelerate launch` starts for these options.

    Args:
        command (`str`):
            `"dapo"`, `"pggrpo"` or `"pgdpo"`.
        arguments (`list[str]`):
            Its options, without those of the launcher.
        launch_arguments (`list[str]`):
            The launcher's; `--accelerate_config` names a file or one that TRL ships, such as `zero2`.
    """
    launcher = resolve_accelerate_config_argument(launch_arguments)
    launch_command(launch_command_parser().parse_args([*launcher, "-m", "pg_grpo.cli", command, *arguments]))
