"""Log-probabilities of completions under the policy that wrote them, kept while they wait for a later batch."""

from typing import Any

import torch
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing
from trl.trainer.utils import pad

from .rollouts import Rollout, SampledBatch


def pad_rows(
    rows: list[Rollout], pad_token_id: int, pad_to_multiple_of: int | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """
    Input of the policy for some rows, padded as the host pads: prompts on the left, completions on the right.

    Args:
        rows (`list[Rollout]`):
            `B` rows.
        pad_token_id (`int`), pad_to_multiple_of (`int` or `None`):
            The host's.
        device (`torch.device`):
            Where the tensors go.

    Returns:
        `tuple[torch.Tensor, torch.Tensor, int]`: token ids and attention mask of shape `(B, P + T)`, and `T`.
    """
    ids, masks = [], []
    for name, side in (("prompt_ids", "left"), ("completion_ids", "right")):
        tokens = [torch.tensor(getattr(row, name)) for row in rows]
        options = {"padding_side": side, "pad_to_multiple_of": pad_to_multiple_of}
        ids.append(pad(tokens, padding_value=pad_token_id, **options))
        masks.append(pad([torch.ones_like(row) for row in tokens], padding_value=0, **options))
    return torch.cat(ids, dim=1).to(device), torch.cat(masks, dim=1).to(device), ids[1].size(1)


def keep_old_logps(rows: list[Rollout], per_token_logps: torch.Tensor) -> None:
    """Store in each row the log-probabilities of its completion's tokens, from `(B, T)` padded on the right."""
    for row, logps in zip(rows, per_token_logps.float(), strict=True):
        row.old_per_token_logps = logps[: len(row.completion_ids)].tolist()


def restore_old_logps(rows: list[Rollout], per_token_logps: torch.Tensor) -> torch.Tensor:
    """
    Put the stored log-probabilities in the place of the current policy's, for the rows that have them.

    Args:
        rows (`list[Rollout]`):
            `B` rows.
        per_token_logps (`torch.Tensor` of shape `(B, T)`):
            Of the current policy, padded on the right.

    Returns:
        `torch.Tensor` of shape `(B, T)`.
    """
    restored = per_token_logps.clone()
    for index, row in enumerate(rows):
        if row.old_per_token_logps is not None:
            restored[index, : len(row.completion_ids)] = restored.new_tensor(row.old_per_token_logps)
    return restored


class KeepsOldLogps(GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] whose batches may hold rows that an earlier policy wrote. [`DAPOTrainer`] stands on it.

    The only change: `old_per_token_logps` of such rows are the ones stored when they were written. The host forms the
    vLLM correction from them too, since they are in place before it does.
    """

    _carried_rows: list[Rollout] | None = None  # this rank's rows of a batch with groups that waited, else None
    _rows_scored_next: list[Rollout] | None = None  # rows about to be scored as the old policy's

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if self._carried_rows is None:
            return super()._generate_and_score_completions(inputs)
        # By its own criterion the host scores the rows with the policy before anything else, or never
        generate_every = self.args.steps_per_generation * self.num_iterations
        misaligned = self.args.gradient_accumulation_steps % generate_every != 0
        if misaligned or (self.use_vllm and self.vllm_importance_sampling_correction):
            self._rows_scored_next = self._carried_rows
        batch = super()._generate_and_score_completions(inputs)
        if "old_per_token_logps" not in batch:
            ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
            mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
            self._rows_scored_next = self._carried_rows
            batch["old_per_token_logps"] = self._policy_logps(ids, mask, batch["completion_ids"].size(1))
        return batch

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        logps, *rest = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        if self._rows_scored_next is not None:
            logps = restore_old_logps(self._rows_scored_next, logps)
            self._rows_scored_next = None
        return logps, *rest

    def _score_waiting(self, sampled: SampledBatch) -> None:
        """Score the rows that begin to wait with the policy that wrote them, which is still the current one."""
        unscored = [row for row in sampled.waiting if row.old_per_token_logps is None]
        size = self.args.per_device_train_batch_size
        padding = (self._tokenizer.pad_token_id, self.pad_to_multiple_of, self.accelerator.device)
        for start in range(0, -(-sampled.num_waiting // self.accelerator.num_processes), size):
            rows = unscored[start : start + size]
            # A sharded model needs every rank to score equally often, with or without rows of its own
            logps = self._policy_logps(*pad_rows(rows or sampled.rows[:1], *padding))
            keep_old_logps(rows, logps[: len(rows)])

    def _policy_logps(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, logits_to_keep: int) -> torch.Tensor:
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            size = self.args.per_device_train_batch_size
            return self._get_per_token_logps_and_entropies(
                self.model, input_ids, attention_mask, logits_to_keep, batch_size=size
            )[0]
