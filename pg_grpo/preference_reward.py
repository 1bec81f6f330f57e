"""Preferences as rewards: a judge compares the completions of a group, and each gets its win rate or strength."""

import asyncio
import hashlib
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from itertools import groupby
from numbers import Real
from typing import Any, cast

import torch
from trl.trainer.utils import get_callable_name, is_async_callable

from dapo_ext.refusals import refusal

from .pairwise import bradley_terry_strengths, comparison_design, win_rates


# What a judge may answer for "neither, and no tie": TRL's and the usual forms of a missing value.
REFUSED = -1
Verdicts = Sequence[float | None]
Rewards = list[float | None]
Judge = Callable[[list, list[list]], Verdicts | Awaitable[Verdicts]]


@dataclass
class _Comparison:
    """Two rows of the batch in the order they are shown."""

    first: int
    second: int
    verdict: float | None = None  # 0 the first is better, 1 the second, None refused


class PreferenceReward:
    """
    Reward function for tasks without a verifier: compares the completions of a group pairwise and rewards each with
    its win rate or its Bradley-Terry strength.

    An instance goes into `reward_funcs` of any of TRL's or this project's trainers that sample groups. The judge sees

    - `prompts` (`list`): the prompt of each comparison, as the trainer has it (text or messages),
    - `completions` (`list[list]`): for each of them the two completions to compare,

    and returns for each comparison 0 if the first is better, 1 if the second is, 0.5 for a tie or any number between as
    the share of the second, and `None`, NaN or -1 if it will not say. (These are the conventions of TRL's pairwise
    judges.) The order of the two is random, drawn from the texts, so that a judge with a liking for the first does not
    favour any completion. Completions that are equal tie without being shown.

    A comparison the judge refused counts for neither side. A completion all of whose comparisons were refused has no
    reward (`None`). A judge that raises, or answers anything else, is a `ValueError` that names it: catch what may
    fail for a time, such as a network call, in the judge, and return `None`.

    With dynamic sampling: unless the whole group ties, win rates differ, so that nearly every group is informative and
    the filter selects next to nothing. Let another reward function decide (`filter_rewards`) where there is one.

    Args:
        judge (`Callable`):
            `judge(prompts, completions)`. If it is an `async` function, so is the instance, and the trainer awaits it.
        num_generations (`int`):
            The trainer's `num_generations`, at least 2. The rows of a rank must hold whole groups.
        num_generations_eval (`int`, *optional*):
            The trainer's `num_generations_eval`, where it differs.
        reward (`str`, *optional*, defaults to `"win_rate"`):
            `"win_rate"`: share of its comparisons a completion won, in [0, 1]. `"bradley_terry"`: its strength in
            logits, which also counts whom it won against and sums to 0 over a group.
        regularization (`float`, *optional*, defaults to `1.0`):
            Precision of the prior on the strengths, above 0. A larger one pulls them towards 0.
        comparisons (`int`, *optional*):
            Comparisons per group, from `num_generations - 1` on: a random connected design in which all completions
            take part about equally often. `None` for all `G * (G - 1) / 2`.
        batch_size (`int`, *optional*):
            Most comparisons in one call of the judge; several calls of an `async` judge run at the same time. `None`
            for one call.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the design and of the order of presentation.
        name (`str`, *optional*, defaults to `"preference_reward"`):
            Name of the reward function in metrics and in `filter_rewards`. Through `log_metric` it logs, averaged over
            calls, `<name>/comparisons` (shown to the judge), `<name>/ties` and `<name>/refusals` (shares of them).

    Raises:
        ValueError: for a value that cannot be honoured.

    Example:
    ```python
    from pg_grpo import PGGRPOTrainer, PreferenceReward

    def shorter(prompts, completions):
        return [0.5 if len(a) == len(b) else float(len(b) < len(a)) for a, b in completions]

    trainer = PGGRPOTrainer(..., reward_funcs=PreferenceReward(shorter, num_generations=8))
    ```
    """

    # Read by `dapo_ext`: refills must give every rank whole groups, and the filter has little to select by
    compares_within_group = True

    def __init__(
        self,
        judge: Judge,
        num_generations: int,
        num_generations_eval: int | None = None,
        reward: str = "win_rate",
        regularization: float = 1.0,
        comparisons: int | None = None,
        batch_size: int | None = None,
        seed: int = 0,
        name: str = "preference_reward",
    ):
        sizes = {num_generations, num_generations if num_generations_eval is None else num_generations_eval}
        if min(sizes) < 2:
            raise refusal(
                "num_generations", min(sizes), "one completion has none to be compared with", "give 2 or more"
            )
        if reward not in ("win_rate", "bradley_terry"):
            raise refusal("reward", reward, "there is no such reward", "choose 'win_rate' or 'bradley_terry'")
        if not (math.isfinite(regularization) and regularization > 0):
            reason = "without a prior the strength of a completion that wins every time is infinite"
            raise refusal("regularization", regularization, reason, "give a finite number above 0, such as 1.0")
        if comparisons is not None and comparisons < max(sizes) - 1:
            reason = f"{max(sizes)} completions need {max(sizes) - 1} comparisons to be connected with one another"
            raise refusal("comparisons", comparisons, reason, f"give {max(sizes) - 1} or more, or None for all pairs")
        if batch_size is not None and batch_size < 1:
            raise refusal("batch_size", batch_size, "a call needs a comparison", "give 1 or more, or None for one call")
        self.judge = judge
        self.__name__ = name
        self._group_sizes = sorted(sizes, reverse=True)
        self._regularization = regularization if reward == "bradley_terry" else None
        self._comparisons = comparisons
        self._batch_size = batch_size
        self._seed = seed

    @property
    def __call__(self) -> Callable[..., Rewards | Coroutine[Any, Any, Rewards]]:
        """The way to call this instance: the trainer asks whether it is a coroutine function."""
        return self._compare_async if is_async_callable(self.judge) else self._compare

    def _compare(self, prompts: list, completions: list, log_metric=None, **kwargs) -> Rewards:
        groups, comparisons = self._plan(prompts, completions)
        asked = self._to_ask(comparisons, completions)
        for batch in self._batches(asked):
            try:
                verdicts = self.judge(*_texts(batch, prompts, completions))
            except Exception as error:
                raise self._failure(error) from error
            self._take(batch, verdicts)
        return self._finish(groups, comparisons, asked, log_metric)

    async def _compare_async(self, prompts: list, completions: list, log_metric=None, **kwargs) -> Rewards:
        """The same with a judge to be awaited; all its calls run at the same time."""
        groups, comparisons = self._plan(prompts, completions)
        asked = self._to_ask(comparisons, completions)
        batches = self._batches(asked)
        try:
            judge = cast(Callable[..., Awaitable[Verdicts]], self.judge)
            answers = await asyncio.gather(*(judge(*_texts(batch, prompts, completions)) for batch in batches))
        except Exception as error:
            raise self._failure(error) from error
        for batch, verdicts in zip(batches, answers, strict=True):
            self._take(batch, verdicts)
        return self._finish(groups, comparisons, asked, log_metric)

    def _plan(self, prompts: list, completions: list) -> tuple[list[range], list[_Comparison]]:
        """The groups as ranges of rows, and the comparisons within them."""
        groups, comparisons = self._find_groups(prompts), []
        for rows in groups:
            texts = repr((self._seed, prompts[rows.start], completions[rows.start : rows.stop]))
            rng = random.Random(hashlib.blake2b(texts.encode()).digest())
            design = comparison_design(len(rows), self._comparisons, rng)
            comparisons += [_Comparison(rows[first], rows[second]) for first, second in design]
        return groups, comparisons

    def _find_groups(self, prompts: list) -> list[range]:
        runs = [len(list(run)) for _, run in groupby(prompts)]
        for size in self._group_sizes:
            if all(run % size == 0 for run in runs):
                return [range(start, start + size) for start in range(0, len(prompts), size)]
        raise ValueError(
            f"'{self.__name__}' was given {len(prompts)} rows whose prompts repeat {runs} times in a row, where groups "
            f"have {' or '.join(map(str, self._group_sizes))} completions: a group straddles ranks, or num_generations "
            "is not the trainer's. Choose per_device_train_batch_size and steps_per_generation (in evaluation "
            "per_device_eval_batch_size) so that the rows of a rank are a multiple of num_generations."
        )

    @staticmethod
    def _to_ask(comparisons: list[_Comparison], completions: list) -> list[_Comparison]:
        """Settle what needs no judge; the rest."""
        for comparison in comparisons:
            if completions[comparison.first] == completions[comparison.second]:
                comparison.verdict = 0.5
        return [comparison for comparison in comparisons if comparison.verdict is None]

    def _batches(self, asked: list[_Comparison]) -> list[list[_Comparison]]:
        size = self._batch_size or max(len(asked), 1)
        return [asked[start : start + size] for start in range(0, len(asked), size)]

    def _failure(self, error: Exception) -> ValueError:
        return ValueError(
            f"The judge '{get_callable_name(self.judge)}' of '{self.__name__}' raised {type(error).__name__}: {error}. "
            "Catch in the judge what may fail for a time, and return None for the comparison."
        )

    def _take(self, batch: list[_Comparison], verdicts: Any) -> None:
        """Check the judge's answers and keep them."""
        judge = f"The judge '{get_callable_name(self.judge)}' of '{self.__name__}'"
        answers = verdicts.tolist() if isinstance(verdicts, torch.Tensor) else verdicts
        if isinstance(answers, str) or not hasattr(answers, "__len__"):
            raise ValueError(f"{judge} returned {verdicts!r} instead of a list of {len(batch)} answers.")
        if len(answers) != len(batch):
            raise ValueError(f"{judge} returned {len(answers)} answers to {len(batch)} comparisons.")
        for comparison, answer in zip(batch, answers, strict=True):
            if isinstance(answer, torch.Tensor) and answer.ndim == 0:
                answer = answer.item()
            if answer is None or (isinstance(answer, Real) and (math.isnan(answer) or answer == REFUSED)):
                continue
            if isinstance(answer, bool) or not isinstance(answer, Real) or not 0 <= float(answer) <= 1:
                raise ValueError(
                    f"{judge} answered {answer!r}. Answer 0 if the first completion is better, 1 if the second is, a "
                    "number between for a tie, and None or -1 if there is no telling."
                )
            comparison.verdict = float(answer)

    def _finish(
        self, groups: list[range], comparisons: list[_Comparison], asked: list[_Comparison], log_metric
    ) -> Rewards:
        if log_metric is not None:
            count = max(len(asked), 1)
            log_metric(f"{self.__name__}/comparisons", len(asked))
            log_metric(f"{self.__name__}/ties", sum(comparison.verdict == 0.5 for comparison in asked) / count)
            log_metric(f"{self.__name__}/refusals", sum(comparison.verdict is None for comparison in asked) / count)
        size = len(groups[0])
        wins = torch.zeros(len(groups), size, size, dtype=torch.float64)
        for comparison in comparisons:
            if comparison.verdict is not None:
                group, first, second = comparison.first // size, comparison.first % size, comparison.second % size
                wins[group, first, second] += 1 - comparison.verdict
                wins[group, second, first] += comparison.verdict
        if self._regularization is None:
            rewards = torch.cat([win_rates(group) for group in wins])
        else:
            rewards = torch.cat([bradley_terry_strengths(group, self._regularization) for group in wins])
        return [None if math.isnan(reward) else reward for reward in rewards.tolist()]


def _texts(batch: list[_Comparison], prompts: list, completions: list) -> tuple[list, list[list]]:
    """What the judge is shown."""
    pairs = [[completions[comparison.first], completions[comparison.second]] for comparison in batch]
    return [prompts[comparison.first] for comparison in batch], pairs
