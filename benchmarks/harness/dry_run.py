"""`--dry-run`: every configuration of a benchmark's preset built and accepted, nothing trained."""

import importlib
import tempfile
from typing import Any

from transformers import TrainingArguments


Planned = tuple[str, type, dict[str, Any]]  # label, configuration class, its fields


def planned(name: str, preset: str) -> list[Planned]:
    """What a benchmark's preset would build; each benchmark's `configs(preset)` says it."""
    return importlib.import_module(f"benchmarks.{name}").configs(preset)


def dry_run(name: str, preset: str) -> list[TrainingArguments]:
    """
    Build every configuration.

    Args:
        name (`str`), preset (`str`):
            Which benchmark's.

    Returns:
        `list[TrainingArguments]`: what was built.

    Raises:
        ValueError: naming the row whose configuration is refused, and why.
    """
    built = []
    with tempfile.TemporaryDirectory() as directory:
        for label, config, settings in planned(name, preset):
            try:
                built.append(config(directory, **settings))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name}, preset {preset}, {label}: {error}") from error
    print(f"{name}, preset {preset}: {len(built)} configurations were built and accepted. Nothing was trained.")
    return built
