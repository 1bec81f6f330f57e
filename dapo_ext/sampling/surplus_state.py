"""Waiting groups as numbers, plain values and dataset rows, which is how a checkpoint holds them."""

import json
from typing import Any

import numpy as np
import torch

from .group_pool import rank_slice
from .rollouts import Rollout, Round
from .surplus import Surplus


def pack_surplus(surplus: Surplus, rows: list[Rollout]) -> tuple[dict[str, Any], dict[str, np.ndarray], list[dict]]:
    """
    Take waiting groups apart.

    Args:
        surplus ([`Surplus`]):
            What waits.
        rows (`list[Rollout]`):
            Its rows of all ranks, in order.

    Returns:
        `tuple`: plain values, arrays, and the dataset rows.
    """
    assert surplus.groups is not None  # there are rows
    with_logprobs = rows[0].logprobs is not None
    values = {
        "written_at": surplus.written_at,
        "keys": surplus.keys,
        "completions": [row.completion for row in rows],
        # Only ever shown in the completions table, so whatever JSON does not know is kept as text
        "extra": json.loads(json.dumps([row.extra for row in rows], default=str)),
        "with_logprobs": with_logprobs,
    }
    arrays = {
        "rewards": np.array([row.rewards for row in rows], dtype=np.float32),
        "truncated": surplus.groups.truncated.cpu().numpy(),
        "prompt_lengths": np.array([len(row.prompt_ids) for row in rows], dtype=np.int64),
        "completion_lengths": np.array([len(row.completion_ids) for row in rows], dtype=np.int64),
        "prompt_ids": np.concatenate([row.prompt_ids for row in rows]).astype(np.int64),
        "completion_ids": np.concatenate([row.completion_ids for row in rows]).astype(np.int64),
        "old_per_token_logps": np.concatenate([row.old_per_token_logps for row in rows]).astype(np.float32),
    }
    if with_logprobs:  # None, for a token the backend could not score, becomes NaN
        arrays["logprobs"] = np.concatenate([np.array(row.logprobs, dtype=np.float64) for row in rows])
    return values, arrays, [row.example for row in rows]


def unpack_surplus(
    values: dict[str, Any],
    arrays: dict[str, np.ndarray],
    examples: list[dict],
    oldest: int,
    process_index: int,
    num_processes: int,
) -> Surplus:
    """
    Put waiting groups together again, on any number of ranks.

    Args:
        values (`dict`), arrays (`dict[str, np.ndarray]`), examples (`list[dict]`):
            From [`pack_surplus`].
        oldest (`int`):
            Groups written in an earlier generation are left out.
        process_index (`int`), num_processes (`int`):
            This rank and the number of ranks.

    Returns:
        [`Surplus`]: with this rank's share of the rows.
    """
    chosen = [group for group, written_at in enumerate(values["written_at"]) if written_at >= oldest]
    if not chosen:
        return Surplus()
    rows = _unpack_rows(values, arrays, examples)
    size = len(rows) // len(values["written_at"])
    numbers = [group * size + i for group in chosen for i in range(size)]
    rows = [rows[number] for number in numbers]
    groups = Round(
        rows=rows[rank_slice(len(rows), process_index, num_processes)],
        rewards_per_func=torch.tensor([row.rewards for row in rows]),
        lengths=torch.tensor([len(row.completion_ids) for row in rows]),
        truncated=torch.from_numpy(arrays["truncated"])[numbers],
    )
    return Surplus(
        groups, [values["written_at"][group] for group in chosen], [values["keys"][group] for group in chosen]
    )


def _unpack_rows(values: dict[str, Any], arrays: dict[str, np.ndarray], examples: list[dict]) -> list[Rollout]:
    prompts = np.split(arrays["prompt_ids"], arrays["prompt_lengths"].cumsum()[:-1])
    ends = arrays["completion_lengths"].cumsum()[:-1]
    completions, old_logps = np.split(arrays["completion_ids"], ends), np.split(arrays["old_per_token_logps"], ends)
    logprobs: list = [None] * len(examples)
    if values["with_logprobs"]:
        logprobs = [
            [None if np.isnan(value) else value for value in row.tolist()] for row in np.split(arrays["logprobs"], ends)
        ]
    return [
        Rollout(
            example=example,
            prompt_ids=prompts[i].tolist(),
            completion_ids=completions[i].tolist(),
            completion=values["completions"][i],
            logprobs=logprobs[i],
            rewards=arrays["rewards"][i].tolist(),
            extra=values["extra"][i],
            old_per_token_logps=old_logps[i].tolist(),
        )
        for i, example in enumerate(examples)
    ]
