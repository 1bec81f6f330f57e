"""What counts as a value of a field's type; comparisons alone would let a string fail and a NaN pass."""

from numbers import Real
from typing import Any

import torch

from .form import refusal


LARGEST = torch.finfo(torch.float32).max  # beyond it a tensor holds infinity


def is_number(value: Any) -> bool:
    """Whether this is a number that is finite in float32; `True` and `False` are none."""
    return isinstance(value, Real) and not isinstance(value, bool) and abs(value) <= LARGEST  # type: ignore[operator]


def is_whole(value: Any) -> bool:
    """Whether this is a whole number."""
    return is_number(value) and value == int(value)


def check_flags(args, names: tuple[str, ...]) -> None:
    """
    Refuse values of switches that are neither `True` nor `False`, such as the string `"False"`, which counts as true.

    Args:
        args (`TrainingArguments`):
            The configuration.
        names (`tuple[str, ...]`):
            Fields of it.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    for name in names:
        value = getattr(args, name)
        if not isinstance(value, bool):
            raise refusal(name, value, "it is a switch", "give True or False")


def check_unread(args, names: tuple[str, ...], switch: str) -> None:
    """
    Refuse fields that were changed from their defaults while the switch they belong to is off.

    Args:
        args (`TrainingArguments`):
            The configuration.
        names (`tuple[str, ...]`):
            Fields that only count while `switch` is `True`.
        switch (`str`):
            The field that turns them on.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    for name in names:
        value = getattr(args, name)
        if value != type(args).__dataclass_fields__[name].default:
            raise refusal(name, value, f"{switch}=False, so nothing reads it", f"set {switch}=True, or leave it out")
