"""A completion as a row that can be selected, sent to another rank and replayed."""

from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass
class Rollout:
    """One completion with everything the host needs to treat it as just generated."""

    example: dict[str, Any]  # the dataset row, `prompt` and the columns that reward functions read
    prompt_ids: list[int]
    completion_ids: list[int]
    completion: Any  # text, or a list of messages for conversational prompts
    logprobs: list[float] | None  # of the sampled tokens, from backends that return them
    rewards: list[float]  # one for each reward function, NaN where it gave none
    extra: dict[str, Any] = field(default_factory=dict)  # columns a reward function pushed with `log_extra`
    kept: bool = False  # in a group that is trained on
    # Of the completion's tokens under the policy that wrote them; only of rows that wait for a later batch
    old_per_token_logps: list[float] | None = None


@dataclass
class Round:
    """
    What one call of the generator gave: the local rows, and what is known of all rows on every rank.

    `rows` holds this rank's contiguous share of the round's `R * G` rows, see [`rank_slice`]; the tensors hold all of
    them, in order.
    """

    rows: list[Rollout]
    rewards_per_func: torch.Tensor  # (R * G, F), NaN where a function gave none
    lengths: torch.Tensor  # (R * G,), tokens of the completion
    truncated: torch.Tensor  # (R * G,), bool: the completion did not end by itself

    @classmethod
    def join(cls, rounds: list["Round"]) -> "Round":
        """One round that holds the rows of several, in order."""
        return cls(
            rows=[row for part in rounds for row in part.rows],
            rewards_per_func=torch.cat([part.rewards_per_func for part in rounds]),
            lengths=torch.cat([part.lengths for part in rounds]),
            truncated=torch.cat([part.truncated for part in rounds]),
        )

    def to(self, device: torch.device) -> "Round":
        """The same round with its tensors on a device."""
        return Round(self.rows, self.rewards_per_func.to(device), self.lengths.to(device), self.truncated.to(device))


@dataclass
class SampledBatch:
    """The generation batch to train on, and the record of everything that was generated for it."""

    rows: list[Rollout]  # this rank's contiguous share of the batch's N * G rows
    rewards_per_func: torch.Tensor  # (N * G, F); rows without a training signal are NaN throughout
    dropped: list[Rollout]  # rows of this rank that are in no rank's share, now or later
    generated: Round  # all rounds joined: this rank's rows, and the tensors over every rank
    carried_groups: int  # groups of the batch, on all ranks, that an earlier policy wrote
    waiting: list[Rollout]  # this rank's share of the rows that wait for a later batch
    num_waiting: int  # their number over all ranks


def make_rows(
    examples: list[dict[str, Any]],
    prompt_ids: list[list[int]],
    completion_ids: list[list[int]],
    completions: list,
    logprobs: list[list[float]] | None,
    rewards_per_func: list[list[float]],
    extra_columns: dict[str, list],
) -> list[Rollout]:
    """
    Put together what the host returns column by column.

    Args:
        examples, prompt_ids, completion_ids, completions, logprobs:
            As the host's `_generate` takes and returns them, `R` rows of one rank.
        rewards_per_func (`list[list[float]]`):
            Rewards of each row by each of the `F` functions.
        extra_columns (`dict[str, list]`):
            What the reward functions pushed with `log_extra`, one value per row.

    Returns:
        `list[Rollout]`
    """
    return [
        Rollout(
            example=example,
            prompt_ids=prompt_ids[i],
            completion_ids=completion_ids[i],
            completion=completions[i],
            logprobs=None if logprobs is None else logprobs[i],
            rewards=rewards_per_func[i],
            extra={column: values[i] for column, values in extra_columns.items()},
        )
        for i, example in enumerate(examples)
    ]
