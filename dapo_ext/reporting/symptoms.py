"""How a run's logged metrics show that it goes wrong."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Protocol


WINDOW = 10  # logged values that a mean is over: one of them alone says little
HELD_OUT_FALL = 0.2  # in standard deviations of what the held-out metric is the mean of

Logs = Mapping[str, float | None]


class Symptom(Protocol):
    """Something to look for in what is logged."""

    name: str
    metric: str
    remedy: str

    def observe(self, logs: Logs) -> str | None:
        """Take in a logged record; what is to be said once the symptom is there, or cannot be looked for."""


@dataclass
class OutOfBounds:
    """
    The mean of the last ten values of a metric lies outside `[low, high]`.

    With `relative` the bounds are multiples of the mean of the run's first ten values. Values that are missing or NaN
    are left out.
    """

    name: str
    metric: str
    remedy: str
    low: float = -math.inf
    high: float = math.inf
    relative: bool = False
    _values: list[float] = field(default_factory=list)

    def observe(self, logs: Logs) -> str | None:
        value = _number(logs, self.metric)
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
        return f"the mean of `{self.metric}` over the last {WINDOW} logs is {last:.3g}, {side} {limit}. {self.remedy}"


@dataclass
class _Evaluation:
    value: float
    spread: float
    train: list[float]  # training rewards since the evaluation before


@dataclass
class HeldOutFall:
    """
    A held-out metric falls while the training reward rises.

    It has fallen when the mean of the last two evaluations lies below the best one by a fifth of the standard deviation
    of what it is the mean of, which is beyond the noise of an evaluation of some hundred completions. That deviation is
    logged as `spread_metric`; without one the metric is a share, whose deviation is `sqrt(p (1 - p))`. The training
    reward of an evaluation is the mean of what was logged since the one before. Several evaluation datasets, which TRL
    logs under one name, are told apart by the name of their run time.
    """

    name: str
    metric: str
    remedy: str
    train_metric: str
    spread_metric: str | None = None
    _train: list[float] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)  # training rewards before the last evaluation, by dataset
    _evaluations: dict[str, list[_Evaluation]] = field(default_factory=dict)

    def observe(self, logs: Logs) -> str | None:
        reward, value = _number(logs, self.train_metric), _number(logs, self.metric)
        if not math.isnan(reward):
            self._train.append(reward)
        dataset = next((name for name in logs if name.startswith("eval_") and name.endswith("_runtime")), None)
        if dataset is None:
            return None
        for name in (self.metric, self.spread_metric):
            if name is not None and name not in logs:
                return f"it is not looked for, since the evaluation logs no `{name}`."
        if math.isnan(value):
            return None
        spread = math.sqrt(value * (1 - value)) if self.spread_metric is None else _number(logs, self.spread_metric)
        evaluations = self._evaluations.setdefault(dataset, [])
        evaluations.append(_Evaluation(value, spread, self._train[self._seen.get(dataset, 0) :]))
        self._seen[dataset] = len(self._train)
        return self._judge(evaluations)

    def _judge(self, evaluations: list[_Evaluation]) -> str | None:
        best = max(range(len(evaluations)), key=lambda i: evaluations[i].value)
        if len(evaluations) - best < 3:  # two evaluations after the best
            return None
        peak, last = evaluations[best], evaluations[-2:]
        before = peak.train or evaluations[best + 1].train  # the first evaluation may come before any step
        now = last[0].train + last[1].train
        spread = max(each.spread for each in (peak, *last))
        if not (before and now) or math.isnan(spread):
            return None
        fallen = fmean(each.value for each in last)
        if fallen >= peak.value - HELD_OUT_FALL * spread or fmean(now) <= fmean(before):
            return None
        return (
            f"`{self.metric}` has fallen from {peak.value:.3g} to {fallen:.3g}, while `{self.train_metric}` has risen "
            f"from {fmean(before):.3g} to {fmean(now):.3g}. {self.remedy}"
        )


def _number(logs: Logs, name: str) -> float:
    """The value of a metric; NaN where it is missing, or where the host logs None because nothing had a value."""
    value = logs.get(name)
    return math.nan if value is None else value
