"""What a row of a table trains with: a trainer, its configuration, and the layout that all rows share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from trl import DPOTrainer

from benchmarks.harness.run_spec import SETTING
from benchmarks.harness.worlds import World


NUM_GENERATIONS = 8
PROMPTS_PER_GENERATION = 64
COMPLETIONS_PER_GENERATION = PROMPTS_PER_GENERATION * NUM_GENERATIONS
# Above the longest right answer without a redo, which has 39 tokens: the punishment starts at 41
SOFT_OVERLONG_CACHE = 8
# The same share of the larger policy's 256 tokens, whose longest right answer without a redo has 159
SOFT_OVERLONG_SHARE = SOFT_OVERLONG_CACHE / 48


@dataclass(frozen=True)
class Method:
    """
    One row of a table.

    Attributes:
        label (`str`):
            What the page calls it.
        trainer (`type`), config (`type`):
            The trainer's class and its configuration's.
        settings (`Mapping`):
            Fields of the configuration that the row fixes.
        knob (`tuple[Mapping, ...]`):
            Values tried for the one hyper-parameter of its own that decides how far an update may go, the published or
            default one first; every method has as many.
    """

    label: str
    trainer: type
    config: type
    settings: Mapping[str, Any]
    knob: tuple[Mapping[str, Any], ...] = ({},)

    @property
    def is_offline(self) -> bool:
        return issubclass(self.trainer, DPOTrainer)

    def settings_in(self, world: World) -> dict[str, Any]:
        """The row's settings where a table is of another world than the playground."""
        settings = {**self.settings, **world.settings}
        if not self.is_offline:
            settings["max_completion_length"] = world.max_completion_length
        return settings


def on_policy(updates_per_generation: int, completions: int = COMPLETIONS_PER_GENERATION) -> dict[str, Any]:
    """Settings of a method that generates, with so many updates on each generation of so many completions."""
    return {
        **SETTING,
        "per_device_train_batch_size": completions // updates_per_generation,
        "steps_per_generation": updates_per_generation,
        "num_generations": NUM_GENERATIONS,
        "beta": 0.0,  # no KL term, so that only ratio, advantage and aggregation differ
    }


def offline(pairs_per_update: int) -> dict[str, Any]:
    """Settings of a method that trains on pairs."""
    of_generations = {"steps_per_generation", "num_generations", "max_completion_length"}
    settings = {name: value for name, value in SETTING.items() if name not in of_generations}
    return settings | {"per_device_train_batch_size": pairs_per_update}
