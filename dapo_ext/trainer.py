"""DAPO as a subclass of TRL's GRPOTrainer: what differs from the parent, and nothing else."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback
from trl.rewards import get_soft_overlong_punishment

from .config import DAPOConfig
from .loss.denominators import set_denominators
from .loss.token_weighted_trainer import TokenWeightedTrainer
from .quantized_policy import TrainsQuantizedPolicy
from .refusals.objective_checks import ROW_MEAN_LOSSES
from .refusals.prompt_lengths import FittingPrompts
from .refusals.trainer_checks import check_trainer
from .refusals.trainer_config import own_config
from .reporting.completions_table import KEPT_COLUMN, clear_table, fill_table
from .reporting.host_metrics import (
    count_unscored,
    drop_loss_metrics,
    replace_completion_metrics,
    replace_reward_metrics,
    rescale_sequence_metrics,
)
from .reporting.model_card import CardWithConfiguration
from .resume.generation_resume import GenerationResume
from .resume.saving_errors import ExplainedSaving
from .rewards.checked_rewards import CheckedRewards
from .rewards.reward_checks import withdraw_punishment
from .sampling.dynamic_sampling import DynamicSampler
from .sampling.early_end import EndsEarly
from .sampling.old_logps import KeepsOldLogps
from .sampling.rollouts import Round, SampledBatch, make_rows
from .sampling.sampler_setup import build_sampler


class DAPOTrainer(
    TrainsQuantizedPolicy,
    ExplainedSaving,
    EndsEarly,
    GenerationResume,
    CardWithConfiguration,
    TokenWeightedTrainer,
    KeepsOldLogps,
    FittingPrompts,
    CheckedRewards,
):
    """
    Trainer for DAPO (https://huggingface.co/papers/2503.14476): [`~trl.GRPOTrainer`] with dynamic sampling, exact
    token-level loss, overlong filtering that leaves the group's statistics alone, and the soft overlong punishment.

    Arguments are those of [`~trl.GRPOTrainer`], with a [`DAPOConfig`] as `args`, and one more:

        token_weight_fn (`Callable`, *optional*):
            `token_weight_fn(completion_ids, mask, logps, entropies, advantages)` returns the importance weights of a
            micro-batch's tokens, at least 0, as a tensor of shape `(B, T)`. It is given tensors of that shape
            (`advantages` of shape `(B,)`); `logps` and `entropies` are those of the policy that generated.

    What differs from the parent:

    - **Dynamic sampling.** A generation batch is refilled group by group until every group's task rewards differ
      (`0 < #correct < G`); the survivors are handed to the parent as if they had just been generated, so padding,
      log-probabilities, advantages and the vLLM correction stay the parent's. Nothing is computed for the rest. Steps,
      epochs, learning-rate schedule and progress bar count optimizer steps as in TRL; what was drawn beyond them is in
      the metrics under `dynamic_sampling/`. Evaluation is never filtered or punished.
    - **Surplus** (`carry_surplus`). Informative groups beyond the batch wait for the next one, with the
      log-probabilities of the policy that wrote them: ratio, clipping and vLLM correction are against that policy.
    - **Prompt selection** (`prompt_selection="predictive"`). The prompts of every round are chosen by a running
      estimate of their pass rates, in place of those the parent's sampler hands out. That shifts the distribution of
      the training prompts: training rewards of different runs can no longer be compared, held-out ones can.
    - **Token mean.** `sum_i sum_t m_it l_it / sum_i sum_t m_it` with the denominator counted over the whole optimizer
      step: all ranks, all micro-batches, without truncated completions that are filtered and without dead rows. TRL
      divides by the token count of the generation batch scaled to the step, which is the mean step and not this one.
      With one optimizer step per generation the two are the same number.
    - **Row means** (`"grpo"`, `"sapo"`, `"luspo"`, `"dr_grpo"`) are over the rows that are left, where TRL also counts
      the filtered ones. The load-balancing loss of a mixture of experts sees every row, as in TRL.
    - **Unscored completions** (every reward function gave `None` or NaN) leave the loss in the same way while dynamic
      sampling or overlong filtering is on; TRL gives them an advantage of 0 and leaves them in KL and denominator.
    - **Overlong filtering** (`mask_truncated_completions`): truncated completions leave loss and denominator, as in
      TRL, and do not move the mean and standard deviation of their group, which in TRL they do.
    - **Soft overlong punishment** is a reward function of its own beside the task's, logged under
      `rewards/soft_overlong_punishment_reward`. It scores no completion that nothing else has scored.
    - **Importance-weighted tokens** (`token_weighting`, `token_weight_fn`) weigh in the surrogate, not in the KL term.
    - **Reward curves.** `reward`, `rewards/*`, `frac_reward_zero_std` and `completions/*` cover everything generated.

    An optimizer step left without a single live row changes no weight: its gradients are removed before the optimizer
    would move the weights by momentum and decay. (DeepSpeed steps inside its own engine, where this cannot be done.)

    Attributes:
        sampler (`DynamicSampler` or `None`):
            Dynamic sampling's state; `sampler.ledger` holds its totals over the run.
        stop_reason (`str` or `None`):
            The diagnosis, when training ended early because no informative group could be found.

    Example:
    ```python
    from datasets import load_dataset
    from dapo_ext import DAPOConfig, DAPOTrainer
    from trl.rewards import accuracy_reward

    trainer = DAPOTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        reward_funcs=accuracy_reward,
        args=DAPOConfig(output_dir="Qwen2.5-0.5B-DAPO"),
        train_dataset=load_dataset("trl-lib/DeepMath-103K", split="train"),
    )
    trainer.train()
    ```
    """

    sampler: DynamicSampler | None
    _tag_names = ["trl", "dapo"]  # noqa: RUF012 - the parent's form
    _name = "DAPO"
    _paper = {  # noqa: RUF012 - the parent's form
        "title": "DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
        "id": "2503.14476",
        "citation": textwrap.dedent("""\
            @article{yu2025dapo,
                title        = {{DAPO: An Open-Source LLM Reinforcement Learning System at Scale}},
                author       = {Qiying Yu and others},
                year         = 2025,
                eprint       = {arXiv:2503.14476},
            }"""),
    }

    _replay: SampledBatch | None = None  # what the host's method is to find instead of generating

    def __init__(self, model, reward_funcs=None, args: DAPOConfig | None = None, *trl_args, **trl_kwargs):
        args = own_config(self, DAPOTrainer, args, DAPOConfig, model)
        super().__init__(model, reward_funcs, args, *trl_args, **trl_kwargs)
        check_trainer(self)
        task_columns = list(range(len(self.reward_funcs)))
        self._punishment_column: int | None = None
        if args.soft_overlong_tokens:
            self._add_punishment(args)
        self.sampler = build_sampler(self, task_columns) if args.dynamic_sampling else None
        self._seen_rewards: torch.Tensor | None = None  # of the host's batch, as the reward functions gave them
        self._host_rewards: torch.Tensor | None = None  # the same, NaN where a row has no training signal
        self._window_is_empty = False  # whether the current optimizer step has no live row
        self.add_callback(_KeepWeightsOnEmptyWindow(self))

    def _add_punishment(self, args: DAPOConfig) -> None:
        punishment = get_soft_overlong_punishment(args.max_completion_length, args.soft_overlong_tokens)
        self._punishment_column = len(self.reward_funcs)
        self.reward_funcs = [*self.reward_funcs, punishment]
        self.reward_func_names = [*self.reward_func_names, punishment.__name__]
        self.reward_processing_classes = [*self.reward_processing_classes, None]
        self.reward_weights = torch.cat([self.reward_weights, torch.tensor([args.soft_overlong_weight])])

    # ---- Generation: the parent's method runs on what was sampled ----

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return self._evaluate_completions(inputs)
        if self.sampler is None:
            batch = super()._generate_and_score_completions(inputs)
            if self.mask_truncated_completions:
                assert self._seen_rewards is not None  # by `_calculate_rewards`
                self._replace_reward_metrics(self._seen_rewards)
        else:
            sampled = self.sampler.fill(inputs, self._roll_out, self._report_sampling)
            self._score_waiting(sampled)
            if self.log_completions:
                clear_table(self._logs)
            with self._replaying(sampled):
                batch = super()._generate_and_score_completions([row.example for row in sampled.rows])
            self._replace_reward_metrics(sampled.generated.rewards_per_func)
            if self.log_completions:
                maxlen = self.args.generation_batch_size
                fill_table(self._logs, sampled, self.reward_func_names, gather_object, maxlen)
        if self.sampler is not None or self.mask_truncated_completions:
            self._drop_rows_without_signal(batch)
        return batch

    def _evaluate_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        if self._punishment_column is not None:
            name = self.reward_func_names[self._punishment_column]
            for statistic in ("mean", "std"):
                self._metrics["eval"].pop(f"rewards/{name}/{statistic}")
        if self.sampler is not None and self.log_completions:
            rows = len(inputs) * self.accelerator.num_processes
            self._logs["extra"][KEPT_COLUMN].extend([None] * rows)
        return batch

    def _roll_out(self, examples: list[dict[str, Any]]) -> Round:
        """Generate and score this rank's rows of a round with the parent's own methods."""
        prompts = [example["prompt"] for example in examples]
        prompt_ids, completion_ids, _, completions, logprobs, *_ = super()._generate(prompts)
        rewards = self._calculate_rewards(examples, prompts, completions, completion_ids)
        columns = dict(self._pending_extra_logs)  # they travel with their rows from here on
        self._pending_extra_logs.clear()
        first = self.accelerator.process_index * len(examples)
        own_rewards = rewards[first : first + len(examples)].tolist()
        rows = make_rows(examples, prompt_ids, completion_ids, completions, logprobs, own_rewards, columns)
        lengths = torch.tensor([len(ids) for ids in completion_ids], device=self.accelerator.device)
        return Round(
            rows=rows,
            rewards_per_func=rewards,
            lengths=self.accelerator.gather(lengths),
            truncated=self._gather_truncated(completion_ids),
        )

    def _report_sampling(self, generated: Round, values: dict[str, float]) -> None:
        metrics = self._metrics["train"]
        for name, value in values.items():
            metrics[name].append(value)
        replace_completion_metrics(metrics, generated, rounds=int(values["dynamic_sampling/rounds"]))

    def _gather_truncated(self, completion_ids: list[list[int]]) -> torch.Tensor:
        """Which completions of all ranks did not end by themselves, by the parent's criterion."""
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        truncated = torch.tensor([ids[-1] not in ends for ids in completion_ids], device=self.accelerator.device)
        return self.accelerator.gather(truncated)

    @contextmanager
    def _replaying(self, sampled: SampledBatch) -> Iterator[None]:
        self._replay = sampled
        self._carried_rows = sampled.rows if sampled.carried_groups else None
        try:
            yield
        finally:
            self._replay = self._carried_rows = None

    def _generate(self, prompts: list) -> tuple:
        if self._replay is None:
            return super()._generate(prompts)
        rows = self._replay.rows
        logprobs = None if rows[0].logprobs is None else [row.logprobs for row in rows]
        prompt_ids = [row.prompt_ids for row in rows]
        completion_ids = [row.completion_ids for row in rows]
        # The host's eight items; tool mask, rollout fields and images belong to features refused while sampling
        return prompt_ids, completion_ids, None, [row.completion for row in rows], logprobs, {}, None, []

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list) -> torch.Tensor:
        if self._replay is not None:
            self._host_rewards = self._replay.rewards_per_func
            return self._host_rewards
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self._punishment_column is not None:
            withdraw_punishment(rewards, self._punishment_column, everywhere=not self.model.training)
        count_unscored(self._metrics["train" if self.model.training else "eval"], rewards)
        self._seen_rewards = self._host_rewards = rewards
        if self.model.training and self.sampler is None and self.mask_truncated_completions:
            truncated = self._gather_truncated(completion_ids_list)
            self._host_rewards = rewards.masked_fill(truncated.unsqueeze(1), torch.nan)
        return self._host_rewards

    def _replace_reward_metrics(self, rewards_per_func: torch.Tensor) -> None:
        replace_reward_metrics(
            self._metrics["train"], rewards_per_func, self.reward_weights, self.reward_func_names, self.num_generations
        )

    # ---- Loss: the parent's, on the rows that are left and with the exact denominator ----

    def _drop_rows_without_signal(self, batch: dict[str, Any]) -> None:
        """Take unscored, filtered and dead rows out of loss, KL and metrics; `tool_mask` leaves attention alone."""
        assert self._host_rewards is not None  # by `_calculate_rewards`
        rows = batch["completion_ids"].size(0)
        start = self.accelerator.process_index * rows
        live = ~self._host_rewards[start : start + rows].isnan().all(dim=1)
        if live.all():
            return
        tool_mask = batch.get("tool_mask", torch.ones_like(batch["completion_mask"]))
        batch["tool_mask"] = tool_mask * live.unsqueeze(1).to(tool_mask)

    def _prepare_inputs(self, generation_batch):
        previous = self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        buffered = self._buffered_inputs
        if buffered is not None and buffered is not previous:
            set_denominators(
                buffered,
                self.args.gradient_accumulation_steps,
                self.accelerator.num_processes,
                lambda counts: self.accelerator.reduce(counts, reduction="sum"),
            )
        return inputs

    def _compute_loss(self, model, inputs):
        if not self.model.training:
            return super()._compute_loss(model, inputs)
        self._window_is_empty = inputs["window_is_empty"]
        scale = inputs["row_mean_scale"] if self.loss_type in ROW_MEAN_LOSSES else 1
        with self._balancing_loss_divided_by(scale), self._entropy_control_untouched_if(self._window_is_empty):
            loss = super()._compute_loss(model, inputs) * scale
        of_sequences = self.importance_sampling_level == "sequence" or self.loss_type == "vespo"
        if inputs["live_row_share"] == 0:
            drop_loss_metrics(self._metrics["train"])
        elif inputs["live_row_share"] < 1 and of_sequences and inputs["advantages"].dim() == 1:
            rescale_sequence_metrics(self._metrics["train"], inputs["live_row_share"])
        return loss

    @contextmanager
    def _balancing_loss_divided_by(self, scale: float) -> Iterator[None]:
        """The host adds a mixture of experts' load-balancing loss to the row mean; only the mean is to be scaled."""
        coefficient = self.router_aux_loss_coef
        self.router_aux_loss_coef = coefficient / scale
        try:
            yield
        finally:
            self.router_aux_loss_coef = coefficient

    @contextmanager
    def _entropy_control_untouched_if(self, is_empty: bool) -> Iterator[None]:
        """The host's adaptive coefficient takes the entropy of a step without tokens for 0."""
        before = self.entropy_coef, self._last_world_entropy
        yield
        if is_empty and self.use_adaptive_entropy and self.accelerator.sync_gradients:
            self.entropy_coef, self._last_world_entropy = before
            self._metrics["train"]["entropy_coef"][-1] = self.entropy_coef


class _KeepWeightsOnEmptyWindow(TrainerCallback):
    """Removes the gradients of an optimizer step without live rows: an optimizer moves no weight that has none."""

    def __init__(self, trainer: DAPOTrainer):
        self._trainer = trainer

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self._trainer._window_is_empty:
            model.zero_grad(set_to_none=True)
