"""Reward functions are timed, what they return is checked, and what they raise ends every rank."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn
from trl import GRPOTrainer
from trl.trainer.utils import is_async_callable

from ..shared_failure import fail_on_every_rank
from .reward_checks import describe_uneven_columns, read_rewards, refuse_infinite
from .waiting import report_waiting


class CheckedRewards(GRPOTrainer):
    """
    [`~trl.GRPOTrainer`] whose reward functions cannot hang it or feed it garbage. [`DAPOTrainer`] stands on it.

    - A function that takes long is named in the log while it runs.
    - What it returns must be one number, `None` or NaN for each completion; anything else is an error that names it.
    - What it pushes with `log_extra` must be one value for each completion.
    - What it raises says which function and rank it came from. With several ranks all of them end at once with that
      rank's traceback, where they would otherwise wait for it until the collective times out.
    """

    def _calculate_rewards(self, inputs, prompts, completions, completion_ids_list):
        given = self.reward_funcs
        failures: list = []
        self.reward_funcs = [
            func if isinstance(func, nn.Module) else self._checked(func, name, failures)
            for func, name in zip(given, self.reward_func_names, strict=True)
        ]
        try:
            rewards_per_func = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        finally:
            self.reward_funcs = given
        uneven = describe_uneven_columns(self._pending_extra_logs, len(prompts))
        if uneven:
            failures.append(ValueError(uneven))
        fail_on_every_rank(failures[0] if failures else None, "a reward function", self.accelerator)
        refuse_infinite(rewards_per_func, self.reward_func_names)
        return rewards_per_func

    def _checked(self, func: Callable, name: str, failures: list[Exception]) -> Callable:
        """The function with its checks, sync or async as it was."""

        def checked(prompts, **kwargs):
            rewards = [0.0] * len(prompts)  # nobody will see them: see `_guard`
            with self._guard(name, failures):
                rewards = read_rewards(func(prompts=prompts, **kwargs), name, len(prompts))
            return rewards

        async def checked_async(prompts, **kwargs):
            rewards = [0.0] * len(prompts)
            with self._guard(name, failures):
                rewards = read_rewards(await func(prompts=prompts, **kwargs), name, len(prompts))
            return rewards

        return checked_async if is_async_callable(func) else checked

    @contextmanager
    def _guard(self, name: str, failures: list[Exception]) -> Iterator[None]:
        """
        Time the body and say where its errors come from.

        With several ranks an error goes into `failures`, so that this rank reaches the gathering of the rewards, in
        which the others wait for it.
        """
        rank = self.accelerator.process_index
        try:
            with report_waiting(f"The reward function '{name}' on rank {rank}"):
                yield
        except Exception as error:
            error.add_note(
                f"Raised by the reward function '{name}' on rank {rank}, after step {self.state.global_step}. To go on "
                "without the rewards that fail, catch the error in the function and return None for them."
            )
            if self.accelerator.num_processes == 1:
                raise
            failures.append(error)
