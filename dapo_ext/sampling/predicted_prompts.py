"""Prompts of a round chosen by their estimated pass rates."""

from typing import Any

import numpy as np
import torch
from datasets import Dataset

from ..prompt_selection import Draw, PromptSelector
from .group_filter import Verdict
from .pass_counts import count_right
from .prompt_sources import Examples, GatherObject, RankShare, RoundPrompts


class PredictedPrompts:
    """
    Prompts chosen by their estimated pass rate, those of the first round included: the host's rows are replaced.

    Every round asks for as many prompts as will probably give what is missing. What the first rank chooses holds for
    all, so that a last digit that differs between two kinds of processors cannot part them.

    Args:
        dataset (`Dataset`):
            Where the prompts come from.
        selector ([`PromptSelector`]):
            The estimates.
        share ([`RankShare`]):
            How rounds are divided.
        gather_object (`Callable`):
            Concatenates a list over ranks.
        margin (`float`):
            Standard deviations of the number of informative groups that a round asks for beyond what is missing: 0
            where surplus is thrown away, more where it is kept and therefore costs nothing.
    """

    name = "predictive"

    def __init__(
        self, dataset: Dataset, selector: PromptSelector, share: RankShare, gather_object: GatherObject, margin: float
    ):
        self.dataset = dataset
        self.selector = selector
        self._share = share
        self._gather_object = gather_object
        self._margin = margin
        self._used: set[int] = set()
        self._draw: Draw | None = None
        self._predicted: list[float] = []
        self._informative: list[bool] = []

    def first(self, examples: Examples, missing: int, waiting: list[int], most: int) -> RoundPrompts:
        self.selector.start_generation()
        self._used = set(waiting)
        self._predicted, self._informative = [], []
        drawn = self.refill(max(missing, 1), most)
        assert drawn is not None  # the budget holds a round
        return drawn

    def refill(self, missing: int, most: int) -> RoundPrompts | None:
        share = self._share
        most = min(most, share.batch_groups) // share.multiple * share.multiple
        if most == 0:
            return None
        draw = self.selector.draw(missing, most, sorted(self._used), share.multiple, self._margin)
        chosen = list(zip(draw.positions.tolist(), draw.predicted.tolist(), draw.explored.tolist(), strict=True))
        positions, predicted, explored = zip(
            *self._gather_object(chosen if share.process_index == 0 else []), strict=True
        )
        self._draw = Draw(np.array(positions), np.array(predicted), np.array(explored))
        self._used.update(positions)
        return RoundPrompts(share.rows([self.dataset[position] for position in positions]), list(positions))

    def learn(
        self, rewards: torch.Tensor, verdicts: torch.Tensor, bounds: tuple[float, float], lengths: torch.Tensor
    ) -> None:
        assert self._draw is not None  # a round is learned from after it was drawn
        right, binary = count_right(rewards, self._share.num_generations, bounds)
        informative = (verdicts == Verdict.INFORMATIVE).numpy()
        mean_lengths = lengths.view(-1, self._share.num_generations).double().mean(dim=1)
        self.selector.observe(self._draw, right.numpy(), informative, binary, mean_lengths.numpy())
        self._predicted += self._draw.predicted.tolist()
        self._informative += informative.tolist()

    def metrics(self) -> dict[str, float]:
        values = {
            "predicted_accept_rate": sum(self._predicted) / len(self._predicted),
            "realised_accept_rate": sum(self._informative) / len(self._informative),
            **self.selector.pool_metrics(),
        }
        return {f"prompt_selection/{name}": value for name, value in values.items()}

    def state_dict(self) -> dict[str, Any]:
        return self.selector.state_dict()

    def array_state(self) -> dict[str, np.ndarray]:
        return self.selector.array_state()

    def load_state_dict(self, state: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self.selector.load_state_dict(state, arrays)
