"""
Trainers that take turns step by step in one process, each with a random state of its own.

A machine whose speed drifts slows all of them alike, and each sees the random numbers it would see alone. Their order
is drawn anew for every round, so that none always runs on the caches the same other one left.
"""

import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback

from benchmarks.overhead.rows import PROMPTS, Row, distinct
from dapo_ext.playground import build_policy, build_tokenizer


WARM_UP_STEPS = 4  # not timed: the first generations of a process pay for allocations


class Turns:
    """Whose turn it is: everybody's once a round, in an order that every rank draws alike."""

    def __init__(self, rows: Iterable[str]):
        self._rows, self._generator = list(rows), random.Random(0)
        self._round: list[str] = []
        self._fill()

    @property
    def current(self) -> str:
        return self._round[0]

    def pass_on(self) -> None:
        self._round.pop(0)
        self._fill()

    def leave(self, row: str) -> None:
        """This row has no more turns."""
        self._rows.remove(row)
        self._round = [other for other in self._round if other != row]
        self._fill()

    def _fill(self) -> None:
        if not self._round:
            self._round = self._generator.sample(self._rows, len(self._rows))


class _TakingTurns(TrainerCallback):
    """Lets one trainer make a step while the others wait, and times it; the random state goes with the trainer."""

    def __init__(self, baton: threading.Condition, turns: Turns, row: str):
        self.baton, self.turns, self.row = baton, turns, row
        self.random_state: Any = None
        self.seconds: list[float] = []

    def on_train_begin(self, args, state, control, **kwargs):
        self._started = _now()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(_now() - self._started)
        if state.global_step < state.max_steps:
            self.random_state = _random_state()
            self.turns.pass_on()
            self.baton.notify_all()
            self.baton.release()
            self.take()

    def take(self) -> None:
        """Wait for one's turn."""
        self.baton.acquire()
        self.baton.wait_for(lambda: self.turns.current == self.row)
        _set_random_state(self.random_state)
        self._started = _now()

    def leave(self) -> None:
        """Give up one's turns for good."""
        self.turns.leave(self.row)
        self.baton.notify_all()
        self.baton.release()


def step_seconds(
    rows: Mapping[str, Row],
    layout: Mapping[str, Any],
    seed: int,
    steps: int,
    policy: Mapping[str, int] | None = None,
    prompts: int = PROMPTS,
) -> dict[str, list[float]]:
    """
    Wall seconds of each optimizer step of each row, generation included, after the warm-up.

    Args:
        rows (`Mapping[str, Row]`):
            What takes turns.
        layout (`Mapping[str, Any]`):
            Fields of the configurations that all rows share.
        seed (`int`), steps (`int`):
            Seed of policy, prompts and sampling; steps that are timed.
        policy (`Mapping[str, int]`, *optional*):
            Sizes to pass to [`~dapo_ext.playground.build_policy`].
        prompts (`int`, *optional*):
            Size of the dataset.
    """
    settings = {"seed": seed, "max_steps": steps + WARM_UP_STEPS, **layout}
    with tempfile.TemporaryDirectory() as directory:
        builders = {
            name: partial(build_row, row, f"{directory}/{name}", settings, policy, prompts)
            for name, row in rows.items()
        }
        seconds = take_turns(builders)
    return {name: each[WARM_UP_STEPS:] for name, each in seconds.items()}


def take_turns(builders: Mapping[str, Callable[[list], Any]]) -> dict[str, list[float]]:
    """Wall seconds of each optimizer step of trainers, built by passing a list of callbacks, that take turns."""
    baton, turns = threading.Condition(), Turns(builders)
    clocks = {name: _TakingTurns(baton, turns, name) for name in builders}
    with ThreadPoolExecutor(len(builders)) as threads:
        # Built one after the other, since the host seeds the generators, and since ranks have to agree on the order
        trainers = {name: _build(builder, clocks[name]) for name, builder in builders.items()}
        futures = [threads.submit(_train, trainer, clocks[name]) for name, trainer in trainers.items()]
        for future in futures:
            future.result()
    return {name: clock.seconds for name, clock in clocks.items()}


def build_row(row: Row, directory: str, settings: Mapping[str, Any], policy, prompts: int, callbacks: list):
    """The trainer of a row."""
    reward = {} if row.is_offline else {"reward_funcs": distinct}
    trainer = row.trainer(
        model=build_policy(settings["seed"], **(policy or {})),
        args=row.config(directory, **{**settings, **row.settings}),
        train_dataset=row.dataset(settings["seed"], prompts),
        processing_class=build_tokenizer(),
        callbacks=callbacks,
        **reward,
        **_reference(row, settings, policy),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _reference(row: Row, settings: Mapping[str, Any], policy) -> dict[str, Any]:
    """The reference of an offline row, which the host would look for on disk."""
    return {"ref_model": build_policy(settings["seed"], **(policy or {}))} if row.is_offline else {}


def _build(builder: Callable[[list], Any], clock: _TakingTurns):
    trainer = builder([clock])
    clock.random_state = _random_state()
    return trainer


def _train(trainer, clock: _TakingTurns) -> None:
    clock.take()
    try:
        trainer.train()
    finally:
        clock.leave()


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _random_state() -> tuple[torch.Tensor, list[torch.Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all()


def _set_random_state(state: tuple[torch.Tensor, list[torch.Tensor]]) -> None:
    torch.set_rng_state(state[0])
    torch.cuda.set_rng_state_all(state[1])
