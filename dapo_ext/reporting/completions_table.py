"""The completions table with every generated row in it, marked kept or dropped."""

from collections import deque
from typing import Any

from ..sampling.rollouts import Rollout, SampledBatch


KEPT_COLUMN = "kept"


def clear_table(logs: dict[str, Any]) -> None:
    """Empty the host's table before a generation, so that it holds the rows of one generation batch."""
    for column in ("prompt", "completion", "advantages"):
        logs[column].clear()
    logs["rewards"].clear()
    logs["extra"].clear()


def fill_table(logs: dict[str, Any], batch: SampledBatch, reward_names: list[str], gather_object, maxlen: int) -> None:
    """
    Write the trained rows, in the host's order and with its advantages, and then the dropped ones.

    Args:
        logs (`dict`):
            The host's table; changed in place. `logs["advantages"]` holds the advantages of the trained rows.
        batch ([`SampledBatch`]):
            What was sampled.
        reward_names (`list[str]`):
            TRL's names of the reward functions.
        gather_object (`Callable`):
            Concatenates a list over ranks; called on every rank.
        maxlen (`int`):
            Least number of rows the table must be able to hold.
    """
    rows = gather_object([_cells(row) for row in batch.rows])
    dropped = gather_object([_cells(row) for row in batch.dropped])
    advantages = list(logs["advantages"])[-len(rows) :] + [None] * len(dropped)
    rows = rows + dropped
    columns = sorted({column for row in rows for column in row["extra"]})
    maxlen = max(maxlen, len(rows))
    logs["prompt"] = deque((row["prompt"] for row in rows), maxlen=maxlen)
    logs["completion"] = deque((row["completion"] for row in rows), maxlen=maxlen)
    logs["advantages"] = deque(advantages, maxlen=maxlen)
    for index, name in enumerate(reward_names):
        logs["rewards"][name] = deque((row["rewards"][index] for row in rows), maxlen=maxlen)
    for column in columns:
        logs["extra"][column] = deque((row["extra"].get(column) for row in rows), maxlen=maxlen)
    logs["extra"][KEPT_COLUMN] = deque((row["kept"] for row in rows), maxlen=maxlen)


def _cells(row: Rollout) -> dict[str, Any]:
    return {
        "prompt": row.example["prompt"],
        "completion": row.completion,
        "rewards": row.rewards,
        "extra": row.extra,
        "kept": row.kept,
    }
