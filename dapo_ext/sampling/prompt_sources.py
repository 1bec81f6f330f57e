"""Where the prompts of a round come from; here, from the host's order and a seeded stream."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch

from .group_filter import Verdict
from .prompt_stream import PromptStream, prompt_key
from .refill import AcceptRate, refill_size, shared_multiple


Examples = list[dict[str, Any]]
GatherObject = Callable[[list], list]


@dataclass(frozen=True)
class RankShare:
    """How rounds are divided among the ranks."""

    batch_groups: int  # groups of a generation batch over all ranks, N
    num_generations: int  # completions per group, G
    num_processes: int = 1
    process_index: int = 0
    whole_groups: bool = False  # a refill gives every rank whole groups, because a reward function compares within them

    @property
    def multiple(self) -> int:
        """Smallest number of groups that the ranks can share evenly."""
        if self.whole_groups:
            return self.num_processes
        return shared_multiple(self.num_processes, self.num_generations)

    def rows(self, groups: Examples) -> Examples:
        """This rank's contiguous share of the rows of some groups; every row is an object of its own."""
        share = len(groups) * self.num_generations // self.num_processes
        rows = range(self.process_index * share, (self.process_index + 1) * share)
        return [copy.deepcopy(groups[row // self.num_generations]) for row in rows]


@dataclass
class RoundPrompts:
    """What one round generates from."""

    examples: Examples  # this rank's rows
    keys: list[Any]  # identity of each group's prompt, on every rank


class PromptSource(Protocol):
    """Chooses the prompts of every round of a batch and learns from their rewards; the same on every rank."""

    name: str

    def first(self, examples: Examples, missing: int, waiting: list[Any], most: int) -> RoundPrompts:
        """
        Prompts of a batch's first round, at least one group.

        Args:
            examples (`list[dict]`):
                This rank's share of the rows the host's sampler handed in.
            missing (`int`):
                Informative groups the batch lacks.
            waiting (`list`):
                Keys of the prompts whose groups wait from before.
            most (`int`):
                Groups that may be generated for this batch.
        """

    def refill(self, missing: int, most: int) -> RoundPrompts | None:
        """Prompts of a further round, or `None` when `most` does not hold one more that the ranks can share."""

    def learn(
        self, rewards: torch.Tensor, verdicts: torch.Tensor, bounds: tuple[float, float], lengths: torch.Tensor
    ) -> None:
        """
        Take in the last round.

        Args:
            rewards (`torch.Tensor` of shape `(R * G,)`):
                Deciding rewards, NaN where one does not count.
            verdicts (`torch.Tensor` of shape `(R,)`):
                A [`~dapo_ext.sampling.group_filter.Verdict`] each.
            bounds (`tuple[float, float]`):
                From [`~dapo_ext.sampling.ledger.RewardRange.pass_bounds`].
            lengths (`torch.Tensor` of shape `(R * G,)`):
                Tokens of each completion.
        """

    def metrics(self) -> dict[str, float]:
        """What there is to report of the batch, by full name."""

    def state_dict(self) -> dict[str, Any]: ...

    def array_state(self) -> dict[str, np.ndarray]: ...

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None: ...


class UniformPrompts:
    """
    The prompts the host's sampler handed in, then extra ones from a seeded stream, as many as the accept rate asks for.

    Args:
        stream ([`PromptStream`]):
            Extra prompts.
        share ([`RankShare`]):
            How rounds are divided.
        gather_object (`Callable`):
            Concatenates a list over ranks.
    """

    name = "uniform"

    def __init__(self, stream: PromptStream, share: RankShare, gather_object: GatherObject):
        self.stream = stream
        self.accept_rate = AcceptRate()
        self._share = share
        self._gather_object = gather_object
        self._seen: set[str] = set()

    def first(self, examples: Examples, missing: int, waiting: list[str], most: int) -> RoundPrompts:
        self.accept_rate.age()
        keys = self._gather_object([prompt_key(example) for example in examples])[:: self._share.num_generations]
        self._seen = {*keys, *waiting}
        return RoundPrompts(examples, keys)

    def refill(self, missing: int, most: int) -> RoundPrompts | None:
        share = self._share
        size = refill_size(missing, self.accept_rate.value, share.batch_groups, most, share.multiple)
        if size == 0:
            return None
        groups = self.stream.draw(size, avoid=self._seen)
        keys = [prompt_key(example) for example in groups]
        self._seen.update(keys)
        return RoundPrompts(share.rows(groups), keys)

    def learn(
        self, rewards: torch.Tensor, verdicts: torch.Tensor, bounds: tuple[float, float], lengths: torch.Tensor
    ) -> None:
        self.accept_rate.update(int((verdicts == Verdict.INFORMATIVE).sum()), verdicts.numel())

    def metrics(self) -> dict[str, float]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"stream": self.stream.state_dict(), "accept_rate": asdict(self.accept_rate)}

    def array_state(self) -> dict[str, np.ndarray]:
        return {}

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.stream.load_state_dict(state["stream"])
        self.accept_rate = AcceptRate(**state["accept_rate"])
