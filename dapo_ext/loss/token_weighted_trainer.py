"""Importance-weighted tokens in the host: whose weights they are, when they are formed and where they go."""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from trl import GRPOTrainer
from trl.models.utils import disable_gradient_checkpointing

from ..refusals import refusal
from ..refusals.token_weight_checks import check_unweighted, check_weighted_loss
from ..shared_failure import fail_on_every_rank
from .token_weights import check_token_weights, normalize_in_completions, normalize_in_steps


# Log-probabilities and entropies of the policy that generated, in the generation batch until the weights are formed
POLICY_LOGPS, POLICY_ENTROPIES = "policy_per_token_logps", "policy_entropies"


class TokenWeightedTrainer(GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] whose surrogate is weighted token by token. [`DAPOTrainer`] stands on it.

    The weights are formed once per generation, when the policy is still the one that generated, and multiplied into
    the advantages; the parent's loss takes advantages of shape `(B, T)`. The KL term, the entropy bonus and the
    evaluation are not weighted. `token_weights.py` holds the mathematics. Of groups that waited (`carry_surplus`) the
    log-probabilities are those of the policy that wrote them, the entropies those of the policy at hand.
    """

    def __init__(self, *trl_args, token_weight_fn: Callable[..., torch.Tensor] | None = None, **trl_kwargs):
        super().__init__(*trl_args, **trl_kwargs)
        if token_weight_fn is not None:
            if self.args.token_weighting != "uniform":
                reason, remedy = "a token_weight_fn is given as well", "leave one of the two out"
                raise refusal("token_weighting", self.args.token_weighting, reason, remedy)
            check_weighted_loss(self.args)
        elif self.args.token_weighting == "uniform":
            check_unweighted(self.args)
        self.token_weight_fn = token_weight_fn
        self._policy_passes: list[tuple] | None = None  # of the generation in progress, None outside of it

    @property
    def _weights_tokens(self) -> bool:
        return self.args.token_weighting != "uniform" or self.token_weight_fn is not None

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not (self.model.training and self._weights_tokens):
            return super()._generate_and_score_completions(inputs)
        self._policy_passes = []
        try:
            batch = super()._generate_and_score_completions(inputs)
            passes = self._policy_passes
        finally:
            self._policy_passes = None
        # The host scores the policy itself where it needs old log-probabilities; its head gives entropies as well
        scored = [outputs for outputs in passes if outputs[0] is batch.get("old_per_token_logps")]
        batch[POLICY_LOGPS], batch[POLICY_ENTROPIES], _ = scored[0] if scored else self._score_policy(batch)
        return batch

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        if self._policy_passes is None or model is not self.model:  # the reference's head gives no entropies
            return super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        outputs = super()._get_per_token_logps_and_entropies(model, *args, **{**kwargs, "compute_entropy": True})
        self._policy_passes.append(outputs)
        return outputs

    def _score_policy(self, batch: dict[str, Any]) -> tuple:
        accepted = inspect.signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters
        with torch.no_grad(), disable_gradient_checkpointing(self.model, self.args.gradient_checkpointing_kwargs):
            return self._get_per_token_logps_and_entropies(
                self.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
                batch["completion_ids"].size(1),
                batch_size=self.args.per_device_train_batch_size,
                compute_entropy=True,
                **{name: value for name, value in batch.items() if name in accepted},  # what images bring with them
            )

    def _prepare_inputs(self, generation_batch):
        previous = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if self._weights_tokens and self._buffered_inputs is not previous:
            self._weight_advantages(self._buffered_inputs)
        return inputs

    def _weight_advantages(self, micro_batches: list[dict[str, Any]]) -> None:
        masks = [batch["completion_mask"] * batch.get("tool_mask", 1) for batch in micro_batches]
        weights, failure = [], None
        try:
            weights = [self._form_weights(batch, mask) for batch, mask in zip(micro_batches, masks, strict=True)]
        except Exception as error:  # raised again, here or by `fail_on_every_rank`
            rank, step = self.accelerator.process_index, self.state.global_step
            error.add_note(f"Raised while tokens were weighted on rank {rank}, after step {step}.")
            failure = error
        fail_on_every_rank(failure, "the weighting of tokens", self.accelerator)
        if self.args.token_weight_normalization == "completion":
            weights = [normalize_in_completions(weight, mask) for weight, mask in zip(weights, masks, strict=True)]
        else:
            accumulation = self.args.gradient_accumulation_steps
            weights = normalize_in_steps(weights, masks, accumulation, self.accelerator.gather)
        for batch, weight in zip(micro_batches, weights, strict=True):
            batch["advantages"] = batch["advantages"].unsqueeze(1) * weight

    def _form_weights(self, batch: dict[str, Any], mask: torch.Tensor) -> torch.Tensor:
        logps, entropies = batch.pop(POLICY_LOGPS), batch.pop(POLICY_ENTROPIES)
        if self.token_weight_fn is None:
            return check_token_weights(entropies.clamp(min=0), mask)  # rounding can make it negative
        weights = self.token_weight_fn(batch["completion_ids"], mask, logps, entropies, batch["advantages"])
        return check_token_weights(weights, mask)
