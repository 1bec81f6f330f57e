"""Reward functions by name, as `trl grpo` takes them."""

import difflib
import importlib
import os
import sys
from collections.abc import Callable

from trl import rewards

from dapo_ext.refusals import Refusal


NAMED = ("accuracy_reward", "reasoning_accuracy_reward", "think_format_reward")
PUNISHMENT = "get_soft_overlong_punishment"


def find_reward(name: str) -> Callable:
    """
    A reward function by TRL's name for it, or by dotted path.

    Args:
        name (`str`):
            One of TRL's (`get_soft_overlong_punishment` with TRL's 1280 and 256 tokens), or `module.function`, looked
            for in the current directory first.

    Raises:
        Refusal: when there is no such function; the message names the nearest.
    """
    if name in NAMED:
        return getattr(rewards, name)
    if name == PUNISHMENT:
        return rewards.get_soft_overlong_punishment(max_completion_len=1280, soft_punish_cache=256)
    if "." not in name:
        raise Refusal(
            f"there is no reward function {name!r}.{_nearest(name, [*NAMED, PUNISHMENT])} TRL's are "
            f"{', '.join([*NAMED, PUNISHMENT])}; any other is named by its path, as in `my_rewards.{name}`."
        )
    module_name, _, attribute = name.rpartition(".")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and something it imports is not
        raise Refusal(f"reward function {name!r}: there is no module {error.name!r}.") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        hint = _nearest(attribute, [each for each in dir(module) if callable(getattr(module, each))])
        raise Refusal(f"reward function {name!r}: {module_name} has no function {attribute!r}.{hint}")
    return function


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
