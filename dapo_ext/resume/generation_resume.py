"""Exact resume of a trainer that generates: the generation at hand, and its place in it."""

from typing import Any

import torch

from ..refusals import refusal
from .exact_resume import ExactResume
from .logged_tables import empty_tables, pack_tables, unpack_tables
from .rank_state import Batches, RankState, pack_batches, unpack_batches


class GenerationResume(ExactResume):
    """
    Mixin, to stand before a subclass of [`~trl.GRPOTrainer`] among the bases.

    Beside what [`ExactResume`] keeps: in the middle of a generation (`steps_per_generation` or `num_iterations` above
    one optimizer step) the micro-batches of every rank, so that none is generated anew.
    """

    _buffered_inputs: Batches | None
    _window = (0, 0)  # of the optimizer step at hand or just made: its number, and its first micro-batch

    def _run_fields(self) -> dict[str, Any]:
        args = self.args
        layout = {
            "num_processes": args.world_size,
            "per_device_train_batch_size": args.per_device_train_batch_size,
            "gradient_accumulation_steps": args.gradient_accumulation_steps,
            "steps_per_generation": args.steps_per_generation,
            "num_generations": args.num_generations,
            "num_iterations": args.num_iterations,
        }
        names = ("shuffle_dataset", "prompt_selection", "pass_rate_column")
        prompts = {name: getattr(args, name) for name in names}
        reward_names = list(self.reward_func_names)
        if args.soft_overlong_tokens:
            reward_names.pop()  # the punishment's, which is not the user's
        rewards = {"reward_funcs": reward_names, "soft_overlong_cache": "above 0" if args.soft_overlong_tokens else 0}
        return {**super()._run_fields(), **layout, **prompts, **rewards}

    def _forget_last_call(self) -> None:
        super()._forget_last_call()
        # Else the host, whose data begin anew, goes on in the middle of a generation made from others
        self._step, self._buffered_inputs, self._window = 0, None, (0, 0)
        if self.use_vllm:
            self._last_loaded_step = -1  # or a step of the same number is taken for the one whose weights vLLM holds
        self._pending_extra_logs.clear()
        self._pending_metrics.clear()
        empty_tables(self._logs, self.args.generation_batch_size)

    def get_batch_samples(self, *args):
        self._window = (self.state.global_step, self._step)
        return super().get_batch_samples(*args)

    @property
    def _next_step(self) -> int:
        """Micro-batches trained on in finished optimizer steps: one that is left half-way begins anew."""
        number, first = self._window
        return self._step if self.state.global_step > number else first

    def _generates_at(self, step: int) -> bool:
        return step % (self.args.steps_per_generation * self.num_iterations) == 0

    def _rank_state(self) -> RankState:
        state, step = super()._rank_state(), self._next_step
        state.values["step"] = step
        if not self._generates_at(step) and self._buffered_inputs is not None:
            state.values["batches"], tensors = pack_batches(self._buffered_inputs)
            state.tensors |= tensors
            if self.log_completions:
                state.values["tables"] = pack_tables(self._logs)
        return state

    def _load_rank_state(self, state: RankState) -> None:
        super()._load_rank_state(state)
        self._step, self._buffered_inputs = state.values["step"], None
        if "batches" in state.values:
            batches = unpack_batches(state.values["batches"], state.tensors, self.accelerator.device)
            self._check_generation(batches[0])
            self._buffered_inputs = batches
            if self.log_completions:
                unpack_tables(state.values.get("tables"), self._logs)

    def _check_generation(self, batch: dict[str, torch.Tensor]) -> None:
        """Refuse a loss that needs what the generation at hand was made without."""
        corrected = self.use_vllm and self.vllm_importance_sampling_correction
        needed = {
            "ref_per_token_logps": ("beta", self.beta, self.beta != 0),
            "importance_sampling_ratio": ("vllm_importance_sampling_correction", True, corrected),
        }
        for name, (field, value, is_needed) in needed.items():
            if is_needed and name not in batch:
                reason = f"the checkpoint lies in the middle of a generation that was made without {name}"
                raise refusal(field, value, reason, "leave it as it was, or resume from the end of a generation")
