"""
What a run records: held-out accuracy against optimizer steps, generated tokens, and seconds.

Time spent on evaluation is left out.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback

from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.long_sums import pass_at_of_long_sums
from benchmarks.harness.run_spec import RunSpec
from dapo_ext import evaluate
from dapo_ext.playground import correctness_reward


MOST_DIGITS = 9  # samples of a prompt whose number of right ones is one digit


class Curve(TrainerCallback):
    """
    Held-out accuracy at the beginning, every so many steps and at the end, beside what it took to get there.

    At the end, and after the first generation that brings the generated tokens to the run's budget, it is measured in
    full: on all prompts, with twice the samples, and with every prompt's number of right answers among nine samples or
    fewer as one digit of `successes`. The point of the budget has `at_budget`. Until a generation has been trained on
    the budget does not count, so that all that was paid for has been used; a run on samples of the warm start has paid
    before its first update and stands at its end.
    """

    def __init__(self, spec: RunSpec, tokenizer, counted: CountedReward):
        self.spec, self.tokenizer, self.counted = spec, tokenizer, counted
        self.held_out = spec.where.dataset(spec.split, spec.held_out)
        curve_prompts = spec.held_out if spec.curve_prompts is None else spec.curve_prompts
        self.curve_prompts = self.held_out.select(range(curve_prompts))
        self.points: list[dict[str, Any]] = []
        self._budget_reached = False
        self._paused = 0.0
        self._paused_cpu = 0.0

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._started, self._started_cpu = time.perf_counter(), time.process_time()
        self._measure(model, state, self.spec.samples, self.curve_prompts)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step >= self.spec.steps:
            return  # the end is measured anyway
        if not self._budget_reached and self._is_spent and _generations_are_whole(args, state):
            if self.spec.split == "tuning":
                control.should_training_stop = True
            else:
                self._measure_in_full(model, state)
        elif state.global_step % self.spec.evaluate_every == 0:
            self._measure(model, state, self.spec.samples, self.curve_prompts)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self._measure_in_full(model, state)

    @property
    def _is_spent(self) -> bool:
        return self.spec.token_budget is not None and self.counted.tokens >= self.spec.token_budget

    def _measure_in_full(self, model, state) -> None:
        self._measure(model, state, 2 * self.spec.samples, self.held_out)
        if self._is_spent and not self._budget_reached:
            self.points[-1]["at_budget"] = self._budget_reached = True

    def _measure(self, model, state, k: int, prompts: Dataset) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        point = {
            "step": state.global_step,
            "tokens": self.counted.tokens,
            "generated_groups": self.counted.groups,
            "informative_groups": self.counted.informative,
            "seconds": wall - self._started - self._paused,
            "cpu_seconds": cpu - self._started_cpu - self._paused_cpu,
        }
        world = self.spec.where
        result = evaluate(
            model,
            self.tokenizer,
            prompts,
            correctness_reward,
            k=k,
            max_completion_length=world.max_completion_length,
            batch_size=world.evaluation_batch,
        )
        point |= {"accuracy": result.avg_at_k, "pass": result.pass_at_k[k], "k": k}
        point |= {"length": result.mean_length, "truncated": result.truncated_fraction}
        point["pass_at"] = {str(size): share for size, share in result.pass_at_k.items()}
        point["pass_at_long"] = pass_at_of_long_sums(prompts, result.rewards, world.max_terms, list(result.pass_at_k))
        if len(prompts) == self.spec.held_out and k <= MOST_DIGITS:
            point["successes"] = "".join(map(str, (result.rewards >= 0.5).sum(axis=1)))
        self.points.append(point)
        self._paused += time.perf_counter() - wall
        self._paused_cpu += time.process_time() - cpu


def _generations_are_whole(args, state) -> bool:
    """Whether whatever was generated has been trained on; never of a trainer that generates nothing."""
    if not hasattr(args, "steps_per_generation"):
        return False
    updates = args.steps_per_generation * args.num_iterations // args.gradient_accumulation_steps
    return state.global_step % updates == 0


def at(points: Sequence[Mapping[str, float]], axis: str, value: float, what: str = "accuracy") -> float:
    """A curve's value at a place on one of its axes, by linear interpolation; the ends hold beyond it."""
    return float(np.interp(value, [point[axis] for point in points], [point[what] for point in points]))
