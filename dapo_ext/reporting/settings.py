"""What a run was configured with: the fields that were set, and those of the method."""

import dataclasses
from enum import Enum
from typing import Any

import numpy as np
from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig
from trl import DPOConfig, GRPOConfig


# What follows from other fields, has no plain form, or must not be shown
NOT_SETTINGS = ("generation_batch_size", "parallelism_config", "hub_token")
# What the host makes of a default that it fills in by itself
FILLED_IN: dict[str, Any] = {
    "accelerator_config": {  # the host takes one entry out
        name: value for name, value in AcceleratorConfig().to_dict().items() if name != "use_configured_state"
    },
    "debug": [],
    "disable_tqdm": False,
    "pad_to_multiple_of": None,
    "report_to": [],
}


def settings(args: TrainingArguments) -> dict[str, Any]:
    """
    The resolved values of a configuration that differ from a default, be it its own or the one of TRL and transformers,
    and of every field that TRL's configuration does not have.

    Args:
        args ([`~transformers.TrainingArguments`]):
            A [`DAPOConfig`] or another configuration derived from TRL's.

    Returns:
        `dict[str, Any]`: plain values by name, in the order of the fields.
    """
    values = args.to_dict()
    inherited = {field.name: field for parent in (GRPOConfig, DPOConfig) for field in _fields_of(parent, args)}
    chosen: dict[str, Any] = {}
    for field in dataclasses.fields(args):
        name = field.name
        if not field.init or name in NOT_SETTINGS or name not in values:
            continue
        # The host hides whatever is called a token, the one that pads as well, which is no secret
        value = _plain(args.pad_token if name == "pad_token" else values[name])
        if name not in inherited or not all(_is_default(value, each) for each in (field, inherited[name])):
            chosen[name] = value
    return chosen


def _is_default(value: Any, field: dataclasses.Field) -> bool:
    return value == _plain(default_of(field)) or (field.name in FILLED_IN and value == FILLED_IN[field.name])


def _fields_of(parent: type, args: TrainingArguments) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(parent) if isinstance(args, parent) else ()


def default_of(field: dataclasses.Field) -> Any:
    """The default of a dataclass's field; `dataclasses.MISSING` where it has none."""
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _plain(value: Any) -> Any:
    """A value as YAML knows it: of an enumeration its value, of a number of numpy the number, of the rest the text."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(each) for each in value]
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, np.generic):
        return value.item()
    return value if value is None or type(value) in (bool, int, float, str) else str(value)
