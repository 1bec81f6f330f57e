"""PG-DPO as a subclass of TRL's DPOTrainer: the offline PG loss, and nothing else of the parent's."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from trl import DPOTrainer
from trl.trainer.utils import global_then_local_main_first

from dapo_ext.quantized_policy import TrainsQuantizedPolicy
from dapo_ext.refusals import refusal
from dapo_ext.refusals.trainer_config import own_config
from dapo_ext.reporting.model_card import CardWithConfiguration
from dapo_ext.resume.exact_resume import ExactResume
from dapo_ext.resume.saving_errors import ExplainedSaving
from dapo_ext.sampling.early_end import EndsEarly
from dapo_ext.sampling.prompt_stream import PromptStream

from .dpo_config import PGDPOConfig
from .pair_dataset import keep_trainable_pairs, refuse_no_pairs
from .pair_logps import NOT_FOR_THE_MODEL, REFERENCE, collected_outputs, completion_lengths, sequence_logps
from .pair_loss import PairState, PairTerms
from .pair_loss_checks import PG_LOSS
from .pair_selection import Pairs, PairSelector, ScoredPair, pair_key


# Column of a batch that says which of its pairs count; the model never sees it.
LIVE = "live_pairs"


class PGDPOTrainer(TrainsQuantizedPolicy, ExplainedSaving, EndsEarly, ExactResume, CardWithConfiguration, DPOTrainer):
    """
    Trainer for the offline form of PG-GRPO: [`~trl.DPOTrainer`] whose pairs are groups of two under a clipped ratio.

    Arguments are those of [`~trl.DPOTrainer`], with a [`PGDPOConfig`] as `args`. What differs from the parent:

    - **Loss.** `1/2 * (max(min(p_l, delta), 1 - epsilon) - min(p_w, 1 + epsilon_high))` with `p = exp(pg_beta *
      L^-alpha * D)`, see [`PairObjective`]. Reference, adapters, mixture-of-experts loss, TRL's other loss types beside
      it and all of TRL's metrics are the parent's own.
    - **Mean.** The loss is a mean over the completions, or the tokens, of the whole optimizer step: all ranks, all
      micro-batches. (TRL's losses beside it stay the mean of the micro-batches' means.)
    - **Pairs.** A training pair whose chosen equals its rejected is dropped and counted. A pair with a side that has no
      token to score is an error. (An empty text is the end-of-sequence token alone, which is one.) Evaluation is
      neither filtered nor checked; an empty side has a ratio of 1 there.
    - **Dynamic pairs.** With `dynamic_pairs=True` each optimizer step is filled with pairs that still have a gradient.
      Where there is none left training ends in good order. What was scored is in the metrics under `dynamic_pairs/`.

    Metrics of the loss are under `pg_dpo/`: mean ratio of the chosen and the rejected, share of the chosen above their
    bound and of the rejected below theirs, share of the rejected above `delta`, mean exponent. TRL's `rewards/*` are
    `pg_beta * D`, whatever alpha is.

    Attributes:
        sampler (`PairSelector` or `None`):
            State of dynamic pairs.
        stop_reason (`str` or `None`):
            What was found when training ended early because no pair had a gradient left.

    Example:
    ```python
    from datasets import load_dataset
    from pg_grpo import PGDPOConfig, PGDPOTrainer

    trainer = PGDPOTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        args=PGDPOConfig(output_dir="Qwen2.5-0.5B-PG-DPO"),
        train_dataset=load_dataset("trl-lib/ultrafeedback_binarized", split="train"),
    )
    trainer.train()
    ```
    """

    sampler: PairSelector | None
    data_collator: Any
    _tag_names = ["trl", "pg-dpo"]  # noqa: RUF012 - the parent's form
    _name = "PG-DPO"
    _paper = {  # noqa: RUF012 - the parent's form
        "title": "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        "id": "2305.18290",
        "citation": textwrap.dedent("""\
            @inproceedings{rafailov2023direct,
                title        = {{Direct Preference Optimization: Your Language Model is Secretly a Reward Model}},
                author       = {Rafael Rafailov and others},
                year         = 2023,
                booktitle    = {NeurIPS},
            }"""),
    }

    def __init__(self, model, ref_model=None, args: PGDPOConfig | None = None, *trl_args, **trl_kwargs):
        args = own_config(self, PGDPOTrainer, args, PGDPOConfig, model)
        refuse_no_pairs(trl_kwargs.get("train_dataset", trl_args[1] if len(trl_args) > 1 else None))
        super().__init__(model, ref_model, args, *trl_args, **trl_kwargs)
        if self._is_vision_dataset:
            reason = "images are tokenized batch by batch, so that equal and empty pairs cannot be found beforehand"
            raise refusal("train_dataset", "pairs with images", reason, "use trl.DPOTrainer")
        with global_then_local_main_first():
            self.train_dataset = keep_trainable_pairs(
                self.train_dataset, args.max_length, args.truncation_mode, args.dataset_num_proc
            )
        self.objective = args.pair_objective
        # The parent's method sums over what is left here, which is nothing by default
        self.loss_types, self.loss_weights = list(self.loss_types), list(self.loss_weights)
        position = self.loss_types.index(PG_LOSS)
        self.loss_types.pop(position)
        self.pg_weight = self.loss_weights.pop(position)
        self._step_weight: torch.Tensor | None = None  # what the current optimizer step's loss is divided by
        self.sampler = self._build_selector(args) if args.dynamic_pairs else None

    # ---- Loss: the parent computes everything else ----

    def _compute_loss(self, model, inputs, return_outputs):
        inputs = dict(inputs)
        live = inputs.pop(LIVE, None)
        if live is None:  # else the candidates were scored with them
            self._add_reference(inputs)
        with collected_outputs(model) as outputs, self._reference_in_inputs():
            result = super()._compute_loss(model, inputs, return_outputs)
        terms = self.objective.terms(self._log_ratios(outputs[0].log_probs, inputs), completion_lengths(inputs))
        self._log_terms(terms, inputs)
        loss = self.pg_weight * self._mean(terms, live)
        return (result[0] + loss, result[1]) if return_outputs else result + loss

    def _add_reference(self, inputs: dict[str, Any]) -> None:
        """The reference's log-probabilities, where the dataset has not brought them."""
        if not self.precompute_ref_logps:
            reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
            inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = reference

    @contextmanager
    def _reference_in_inputs(self) -> Iterator[None]:
        """The parent reads the reference's log-probabilities from the batch, as it does when they are precomputed."""
        precomputed, self.precompute_ref_logps = self.precompute_ref_logps, True
        try:
            yield
        finally:
            self.precompute_ref_logps = precomputed

    def compute_ref_log_probs(self, model, inputs):
        with collected_outputs(model) as outputs:
            super().compute_ref_log_probs(model, inputs)
        return sequence_logps(outputs[0].log_probs, inputs).unbind(dim=0)  # the parent's sums are in the model's dtype

    def _log_ratios(self, per_token_logps: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
        """`D`, shape `(2, B)`: chosen and rejected."""
        return sequence_logps(per_token_logps, inputs) - torch.stack([inputs[name] for name in REFERENCE])

    def _prepare_inputs(self, inputs):
        prepared = super()._prepare_inputs(inputs)
        # For DeepSpeed the host rounds floating point inputs to the model's dtype: whole nats, in sums of hundreds
        exact = {name: inputs[name].to(self.args.device) for name in REFERENCE if name in inputs}
        return {**prepared, **exact}

    def _mean(self, terms: PairTerms, live: torch.Tensor | None) -> torch.Tensor:
        """Mean over the optimizer step in training, over the batch in evaluation or where there is no step."""
        if not self.model.training or self._step_weight is None:
            return terms.mean(live)
        # What follows divides by the micro-batches of the step and averages over the ranks
        scale = self.current_gradient_accumulation_steps * self.accelerator.num_processes
        return terms.mean(live, self._step_weight / scale)

    def _log_terms(self, terms: PairTerms, inputs: dict[str, Any]) -> None:
        (chosen, rejected), objective = terms.ratios, self.objective
        values = {
            "chosen_ratio_mean": chosen,
            "rejected_ratio_mean": rejected,
            "chosen_clipped_high": chosen > 1 + objective.epsilon_high,
            "rejected_clipped_low": rejected < 1 - objective.epsilon,
            "rejected_capped": torch.zeros_like(rejected) if objective.delta is None else rejected > objective.delta,
            "exponent_mean": objective.exponents(completion_lengths(inputs).float()).mean(dim=0),
        }
        gathered = self.accelerator.gather(torch.stack([value.float() for value in values.values()], dim=1))
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in zip(values, gathered.mean(dim=0).tolist(), strict=True):
            metrics[f"pg_dpo/{name}"].append(value)

    # ---- Optimizer steps: their pairs, and what their loss is divided by ----

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.sampler is not None and batches:
            batches = self._fill(batches)
        weight = torch.zeros((), device=self.accelerator.device)
        for batch in batches:
            weights = self.objective.weights(completion_lengths(batch)).to(weight)
            weight += (weights * batch.get(LIVE, torch.ones_like(weights[0])).to(weights)).sum()
        self._step_weight = self.accelerator.reduce(weight, reduction="sum")
        return batches, num_items

    def get_train_dataloader(self):
        if self.sampler is None:
            return super().get_train_dataloader()
        collator, self.data_collator = self.data_collator, _keep_rows
        try:
            return super().get_train_dataloader()
        finally:
            self.data_collator = collator

    def _run_fields(self) -> dict[str, Any]:
        # The host deals out a step's pairs anew, so that only their number matters; refills ask for a multiple of ranks
        args = self.args
        rows = args.per_device_train_batch_size * args.gradient_accumulation_steps
        fields = {
            **super()._run_fields(),
            "pairs_per_step": rows * args.world_size,
            "dynamic_pairs": args.dynamic_pairs,
        }
        return {**fields, "num_processes": args.world_size} if args.dynamic_pairs else fields

    def _build_selector(self, args: PGDPOConfig) -> PairSelector:
        dataset = self.train_dataset
        if isinstance(dataset, Dataset):
            dataset = self._remove_unused_columns(dataset, description="training")
        return PairSelector(
            stream=PromptStream(dataset, args.seed, key=pair_key),
            budget=args.pair_budget,
            process_index=self.accelerator.process_index,
            num_processes=self.accelerator.num_processes,
            gather_object=gather_object,
        )

    def _fill(self, batches: list[Pairs]) -> list[dict[str, Any]]:
        """Replace the host's rows by rows with a gradient, in micro-batches of the same sizes, and collate them."""

        def report(values: dict[str, float]) -> None:
            for name, value in values.items():
                self._metrics["train"][f"dynamic_pairs/{name}"].append(value)

        assert self.sampler is not None  # dynamic pairs are on
        self.model.eval()
        try:
            pairs = iter(self.sampler.fill([pair for batch in batches for pair in batch], self._score, report))
        finally:
            self.model.train()
        filled: list[dict[str, Any]] = []
        for batch in batches:
            chosen = [next(pairs) for _ in batch]
            filled.append(self.data_collator([pair.example for pair in chosen]))
            filled[-1][LIVE] = torch.tensor([pair.live for pair in chosen])
        return filled

    @torch.no_grad()
    def _score(self, pairs: Pairs) -> list[ScoredPair]:
        """Judge this rank's candidates under the current policy, a training batch at a time."""
        scored = []
        for start in range(0, len(pairs), self.args.per_device_train_batch_size):
            part = pairs[start : start + self.args.per_device_train_batch_size]
            inputs = self._prepare_inputs(self.data_collator(part))
            self._add_reference(inputs)
            states = self.objective.judge(
                self._log_ratios(self._policy_logps(inputs), inputs), completion_lengths(inputs)
            )
            reference = zip(inputs["ref_chosen_logps"].tolist(), inputs["ref_rejected_logps"].tolist(), strict=True)
            for pair, state, (chosen, rejected) in zip(part, states.tolist(), reference, strict=True):
                example = {**pair, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
                scored.append(ScoredPair(example, PairState(state)))
        return scored

    def _policy_logps(self, inputs: dict[str, Any]) -> torch.Tensor:
        model_inputs = {name: value for name, value in inputs.items() if name not in NOT_FOR_THE_MODEL}
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        with self.compute_loss_context_manager():
            return self.model_wrapped(**model_inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs


def _keep_rows(examples: Pairs) -> Pairs:
    """The rows themselves: they are collated once they have been selected."""
    return examples
