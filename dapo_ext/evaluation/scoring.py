"""A reward function called outside of a trainer."""

import asyncio
import inspect
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
from transformers import TrainerState

from ..rewards.reward_checks import read_rewards


def score(
    reward_func: Callable[..., list[float]],
    rows: list[dict[str, Any]],
    completions: list[Any],
    completion_ids: list[list[int]],
) -> np.ndarray:
    """Call the reward function as `GRPOTrainer._calculate_rewards` does; one finite reward per row."""
    columns = [column for column in rows[0] if column not in ("prompt", "completion", "completion_ids")]
    output: Any = reward_func(
        prompts=[row["prompt"] for row in rows],
        completions=completions,
        completion_ids=completion_ids,
        **{column: [row[column] for row in rows] for column in columns},
        trainer_state=TrainerState(),
        log_extra=lambda column, values: None,
        log_metric=lambda name, value: None,
    )
    if inspect.isawaitable(output):
        # In a thread of its own, since a notebook's thread runs an event loop already.
        with ThreadPoolExecutor(1) as executor:
            output = executor.submit(asyncio.run, cast(Any, output)).result()
    name = getattr(reward_func, "__name__", type(reward_func).__name__)
    rewards = [math.nan if reward is None else reward for reward in read_rewards(output, name, len(rows))]
    missing = [row["prompt"] for row, reward in zip(rows, rewards, strict=True) if math.isnan(reward)]
    if missing:
        raise ValueError(
            f"The reward function '{name}' returned None or NaN for {len(missing)} of {len(rows)} completions, first "
            f"for the prompt {missing[0]!r}. A mean over the rest would be biased: return a number for every "
            "completion, or leave these prompts out of the dataset."
        )
    return np.array(rewards)
