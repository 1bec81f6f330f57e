"""The options of a training command: TRL's parser, in which an unknown flag or key is an error."""

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import yaml
from accelerate.commands.launch import launch_command_parser
from trl import TrlParser


# TRL's own name for accelerate's --config_file, which also knows the files that TRL ships
ACCELERATE_CONFIG = "--accelerate_config"


class RunParser(TrlParser):
    """
    TRL's parser for flags and `--config FILE.yaml`, strict.

    What differs from the parent: a flag or a YAML key that nobody takes is an error naming the nearest one (the parent
    is told by TRL's scripts to drop them silently), flags cannot be abbreviated, a single value is accepted where a
    list is expected, and errors do not print the several hundred options first. Options of `accelerate launch` are
    collected in `launch_arguments`, and `rest_of(arguments)` is what they leave of the command line.

    Args:
        dataclass_types (`Iterable[type]`):
            Dataclasses whose fields are the options.
        prog (`str`):
            Name of the command.
        description (`str`):
            What it does.
        amend (`Callable`):
            Called with the parsed values before the dataclasses are made of them.
    """

    def __init__(
        self, dataclass_types: Iterable[type], prog: str, description: str, amend: Callable[[argparse.Namespace], None]
    ):
        super().__init__(list(dataclass_types), prog=prog, description=description, allow_abbrev=False)
        self.add_argument("--config", metavar="FILE.yaml", help="YAML file with values for any of these options")
        self.launch_arguments: list[str] = []
        self._launch_words: list[str] = []  # the same, as they stand on the command line
        self._amend = amend
        self._launch_options = launch_command_parser()._option_string_actions

    def parse(self, arguments: list[str]) -> tuple[Any, ...]:
        """One instance of each dataclass; exits with a message when something cannot be taken."""
        joined = [part for argument in arguments for part in _split_config(argument)]
        if joined[-1:] == ["--config"]:
            self.error("--config needs the path of a YAML file")
        try:
            return self.parse_args_and_config(joined)
        except yaml.YAMLError as error:
            path = joined[joined.index("--config") + 1]
            raise ValueError(f"the config file {path} is no valid YAML: {' '.join(str(error).split())}") from error

    @contextmanager
    def in_one_line(self, *kinds: type[Exception]) -> Iterator[None]:
        """Exit with the message of an error of these kinds; of any other the traceback is what helps."""
        try:
            yield
        except kinds as error:
            self.error(str(error))

    def set_defaults_with_config(self, **kwargs) -> list[str]:
        self._sort_out(super().set_defaults_with_config(**kwargs), "key of the config file")
        return []

    def parse_known_args(self, args=None, namespace=None):
        namespace, rest = super().parse_known_args(args, namespace)
        del namespace.config  # the parent has read the file
        self._sort_out(rest, "argument")
        self._launch_words = rest
        for action in self._actions:
            value = getattr(namespace, action.dest, None)
            if action.nargs == "+" and isinstance(value, str):  # a YAML scalar
                setattr(namespace, action.dest, [value])
        self._amend(namespace)
        return namespace, []

    def error(self, message: str) -> NoReturn:  # type: ignore[misc]
        self.exit(2, f"{self.prog}: error: {message}\n(`{self.prog} --help` lists the options)\n")

    def rest_of(self, arguments: list[str]) -> list[str]:
        """The command line without the options of the launcher."""
        left, launch_words = [], list(self._launch_words)  # which are in the same order
        for argument in arguments:
            if launch_words and argument == launch_words[0]:
                launch_words.pop(0)
            else:
                left.append(argument)
        return left

    def _sort_out(self, rest: list[str], kind: str) -> None:
        """Hand the launcher's options to the launcher; anything else is unknown."""
        while rest:
            option, *values = rest[: _next_option(rest)]
            rest = rest[1 + len(values) :]
            flag, _, value = option.partition("=")
            values = [value, *values] if value else values
            launch_option = self._launch_options.get(flag)
            if flag == ACCELERATE_CONFIG or (launch_option is not None and launch_option.nargs != 0):
                self.launch_arguments += [flag, *values]
            elif launch_option is None or not flag.startswith("--"):
                self.error(f"unknown {kind} `{flag.removeprefix('--')}`.{self._suggest(flag)}")
            elif values != ["False"]:  # YAML's `false` leaves a switch off
                self.launch_arguments.append(flag)

    def _suggest(self, flag: str) -> str:
        known = {name.replace("-", "_") for name in [*self._option_string_actions, *self._launch_options]}
        near = difflib.get_close_matches(flag.replace("-", "_"), sorted(known), n=1)
        return f" Did you mean `{near[0].lstrip('_')}`?" if near else ""


def print_note(message: str) -> None:
    """Say something about the run to whoever started it."""
    print(f"note: {message}", file=sys.stderr)


def drop_note(message: str) -> None:
    """What the main process says need not be said again."""


def _split_config(argument: str) -> list[str]:
    flag, equals, value = argument.partition("=")
    return [flag, value] if flag == "--config" and equals else [argument]


def _next_option(rest: list[str]) -> int:
    """Position of the second option in `rest`, whose first entry is one."""
    return next((i for i, part in enumerate(rest) if i and part.startswith("--")), len(rest))
