"""What a run was configured with: the fields that were set, and those of the method."""

import dataclasses
from typing import Any

from transformers import TrainingArguments
from trl import DPOConfig, GRPOConfig


# What the host fills in by itself or derives from other fields, and what must not be shown
NOT_SETTINGS = {
    *("accelerator_config", "parallelism_config", "dataloader_pin_memory", "disable_tqdm", "generation_batch_size"),
    "hub_token",
}


def settings(args: TrainingArguments) -> dict[str, Any]:
    """
    The resolved values of a configuration that differ from TRL's and transformers' defaults, and of every field that
    TRL's configuration does not have.

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
        if not field.init or field.name in NOT_SETTINGS or field.name not in values:
            continue
        parent = inherited.get(field.name)
        value = values[field.name]
        if parent is None or (value not in (None, []) and value != _plain(_default(parent))):
            chosen[field.name] = value
    return chosen


def _fields_of(parent: type, args: TrainingArguments) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(parent) if isinstance(args, parent) else ()


def _default(field: dataclasses.Field) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)  # of an enumeration
