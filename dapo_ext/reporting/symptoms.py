"""How a run's logged metrics show that it goes wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol


WINDOW = 10  # logged values that a mean is over: one of them alone says little
HELD_OUT_FALL = 0.2  # in standard deviations of one completion's reward
ACCURACIES = "eval_rewards/accuracies"  # of TRL's DPO: shares of pairs, which are logged without a standard deviation


class Symptom(Protocol):
    """Something to look for in what is logged."""

    name: str
    metric: str
    remedy: str

    def observe(self, logs: Mapping[str, float]) -> str | None:
        """Take in a logged record; a sentence, without a full stop, once the symptom is there."""


@dataclass
class OutOfBounds:
    """
    The mean of the last ten values of a metric lies outside `[low, high]`.

    With `relative` the bounds are multiples of the mean of the run's first ten values. Values that are NaN say nothing
    and are left out.
    """

    name: str
    metric: str
    remedy: str
    low: float = -math.inf
    high: float = math.inf
    relative: bool = False
    _values: list[float] = field(default_factory=list)

    def observe(self, logs: Mapping[str, float]) -> str | None:
        value = logs.get(self.metric, math.nan)
        if math.isnan(value):
            return None
        self._values.append(value)
        if len(self._values) < WINDOW:
            return None
        unit = fmean(self._values[:WINDOW]) if self.relative else 1.0
        last = fmean(self._values[-WINDOW:])
        if self.low * unit <= last <= self.high * unit:
            return None
        bound, side = (self.low, "below") if last < self.low * unit else (self.high, "above")
        limit = f"{bound:g} times the {unit:.3g} of the beginning" if self.relative else f"{bound:g}"
        return f"the mean of `{self.metric}` over the last {WINDOW} logs is {last:.3g}, {side} {limit}"


@dataclass
class HeldOutFall:
    """
    The held-out reward falls while the training reward rises.

    It has fallen when the mean of the last two evaluations lies below the best one by a fifth of the standard deviation
    of a completion's reward, which is beyond the noise of an evaluation of some hundred completions. The training
    reward of an evaluation is the mean of what was logged since the one before.
    """

    name: str
    metric: str
    remedy: str
    train_metric: str
    _held_out: list[float] = field(default_factory=list)
    _spread: list[float] = field(default_factory=list)
    _train: list[list[float]] = field(default_factory=lambda: [[]])  # one list for each evaluation, and the next

    def observe(self, logs: Mapping[str, float]) -> str | None:
        reward, value = logs.get(self.train_metric, math.nan), logs.get(self.metric, math.nan)
        if not math.isnan(reward):
            self._train[-1].append(reward)
        if math.isnan(value):
            return None
        self._held_out.append(value)
        self._spread.append(_spread(logs, self.metric))
        self._train.append([])
        return self._judge()

    def _judge(self) -> str | None:
        best = max(range(len(self._held_out)), key=self._held_out.__getitem__)
        if len(self._held_out) - best < 3:  # two evaluations after the best
            return None
        before = self._train[best] or self._train[best + 1]  # the first evaluation may come before any step
        now = self._train[-3] + self._train[-2]
        if not (before and now):
            return None
        last, peak, rise = fmean(self._held_out[-2:]), self._held_out[best], fmean(now) - fmean(before)
        if last >= peak - HELD_OUT_FALL * self._spread[best] or rise <= 0:
            return None
        return (
            f"`{self.metric}` has fallen from {peak:.3g} to {last:.3g}, while `{self.train_metric}` has risen from "
            f"{fmean(before):.3g} to {fmean(now):.3g}"
        )


def _spread(logs: Mapping[str, float], metric: str) -> float:
    """Standard deviation of what `metric` is the mean of, as TRL logs it; 0 where it logs none."""
    if metric == ACCURACIES:
        return math.sqrt(logs[metric] * (1 - logs[metric]))
    name = f"{metric.removesuffix('/mean')}/std" if metric.endswith("/mean") else f"{metric}_std"
    return logs.get(name, 0.0)
