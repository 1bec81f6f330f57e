"""Dynamic pairs: score candidates ahead, keep those that still have a gradient, refill until the step is full."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from datasets import IterableDataset

from dapo_ext.resume.checkpoint import SamplingState
from dapo_ext.sampling.early_end import NothingToTrainOn
from dapo_ext.sampling.group_pool import exchange_rows, rank_slice
from dapo_ext.sampling.prompt_stream import PromptStream
from dapo_ext.sampling.refill import AcceptRate, refill_size

from .pair_loss import PairState


Pairs = list[dict[str, Any]]


class PairsConverged(NothingToTrainOn):
    """Of the pairs that were scored not one has a gradient left."""


def pair_key(example: dict[str, Any]) -> str:
    """Identity of a pair, equal on every rank and in every process."""
    tokens = (example["prompt_ids"], example["chosen_ids"], example["rejected_ids"])
    return hashlib.blake2b(repr(tokens).encode(), digest_size=8).hexdigest()


@dataclass
class ScoredPair:
    """A candidate with the reference's log-probabilities among its columns."""

    example: dict[str, Any]
    state: PairState

    @property
    def live(self) -> bool:
        """Whether a side of it still has a gradient."""
        return self.state == PairState.LIVE


Score = Callable[[Pairs], list[ScoredPair]]


@dataclass
class Candidates:
    """
    What was scored for one optimizer step.

    Kept are the pairs that a batch may be made of, which are those of the first round and live ones: there are as many
    in a round as in a batch, so that enough of the first are left to fill up with. The states are of all.
    """

    states: list[PairState] = field(default_factory=list)  # of every rank, in order
    pairs: list[tuple[int, ScoredPair]] = field(default_factory=list)  # this rank's, with their place in that order
    rounds: int = 0

    def add(self, scored: list[ScoredPair], states: list[PairState], process_index: int) -> None:
        """A round: this rank's pairs, and the states of all ranks."""
        first = len(self.states) + process_index * len(scored)
        self.pairs += [(i, pair) for i, pair in enumerate(scored, first) if self.rounds == 0 or pair.live]
        self.states += states
        self.rounds += 1


class PairSelector:
    """
    Fills the batches of one optimizer step with pairs that still have a gradient.

    Every decision is taken on verdicts gathered over the ranks, so that all ranks keep the same pairs and score equally
    often. Where every pair of the step has a gradient the step is the host's, pair by pair.

    Args:
        stream ([`~dapo_ext.sampling.prompt_stream.PromptStream`]):
            Candidates beyond the host's own pairs, with [`pair_key`] as their identity.
        budget (`float`):
            Most pairs scored for one step, as a multiple of the step's pairs.
        process_index (`int`), num_processes (`int`):
            This rank and the number of ranks.
        gather_object (`Callable`):
            Concatenates a list over ranks.
    """

    def __init__(
        self,
        stream: PromptStream,
        budget: float,
        process_index: int,
        num_processes: int,
        gather_object: Callable[[list], list],
    ):
        self.stream = stream
        self.accept_rate = AcceptRate()
        self._search_position = 0  # in the dataset, where the next search through it begins
        self._budget = budget
        self._process_index = process_index
        self._num_processes = num_processes
        self._gather_object = gather_object

    def fill(self, pairs: Pairs, score: Score, report: Callable[[dict[str, float]], None]) -> list[ScoredPair]:
        """
        Score until the step is full or the budget is spent; if nothing was found, through the whole dataset.

        Args:
            pairs (`list[dict]`):
                This rank's share of the step's pairs as the host drew them, of equal size on every rank.
            score (`Callable`):
                Scores some of this rank's pairs.
            report (`Callable`):
                Receives the metrics of this step, also when it ends in an error.

        Returns:
            `list[ScoredPair]`: as many pairs as were given. Where too few live ones were found, the places that are
            missing hold others.

        Raises:
            PairsConverged: not one live pair was found.
        """
        wanted = len(pairs) * self._num_processes
        limit = int(self._budget * wanted)
        seen = set(self._gather_object([pair_key(pair) for pair in pairs]))
        candidates = Candidates()
        states = candidates.states
        self.accept_rate.age()
        while True:
            self._score_round(pairs, score, candidates)
            missing = wanted - states.count(PairState.LIVE)
            if missing <= 0:
                break
            size = refill_size(missing, self.accept_rate.value, wanted, limit - len(states), self._num_processes)
            if size == 0:
                break
            extra = self.stream.draw(size, avoid=seen)
            seen.update(pair_key(pair) for pair in extra)
            pairs = extra[rank_slice(len(extra), self._process_index, self._num_processes)]
        if PairState.LIVE not in states:
            self._search_dataset(wanted, score, candidates)
        report(self._metrics(candidates, wanted))
        if PairState.LIVE not in states:
            raise PairsConverged(self._convergence(states))
        return self._select(candidates, wanted)

    def state(self) -> SamplingState:
        """Everything the next step depends on."""
        values = {
            "pair_stream": self.stream.state_dict(),
            "accept_rate": asdict(self.accept_rate),
            "search_position": self._search_position,
        }
        return SamplingState(values)

    def load_state(self, state: SamplingState) -> None:
        """Continue from [`state`]."""
        self.stream.load_state_dict(state.values["pair_stream"])
        self.accept_rate = AcceptRate(**state.values["accept_rate"])
        self._search_position = state.values["search_position"]

    def _score_round(self, pairs: Pairs, score: Score, candidates: Candidates) -> None:
        scored = score(pairs)
        states = self._gather_object([pair.state for pair in scored])
        candidates.add(scored, states, self._process_index)
        self.accept_rate.update(states.count(PairState.LIVE), len(states))

    def _search_dataset(self, wanted: int, score: Score, candidates: Candidates) -> None:
        """
        Score the dataset in order, a step's worth at a time, until a live pair turns up or all were scored.

        A search goes on where the last one ended, so that the last live pairs of a large dataset cost one pass
        together and not one pass each.
        """
        dataset, before = self.stream.dataset, len(candidates.states)
        if isinstance(dataset, IterableDataset):
            return
        share = rank_slice(wanted, self._process_index, self._num_processes)
        while len(candidates.states) - before < len(dataset) and PairState.LIVE not in candidates.states:
            positions = [(self._search_position + offset) % len(dataset) for offset in range(wanted)]
            self._search_position = (positions[-1] + 1) % len(dataset)
            self._score_round([dataset[position] for position in positions[share]], score, candidates)

    def _metrics(self, candidates: Candidates, wanted: int) -> dict[str, float]:
        states = candidates.states
        live = states.count(PairState.LIVE)
        kept = min(live, wanted)
        return {
            "scored_pairs": len(states),
            "kept_pairs": kept,
            "accept_rate": live / len(states),
            "rounds": candidates.rounds,
            "dead_done": states.count(PairState.DONE),
            "dead_stuck": states.count(PairState.STUCK),
            "surplus": live - kept,
            "exhausted": float(kept < wanted),
        }

    def _convergence(self, states: list[PairState]) -> str:
        dataset, stuck = self.stream.dataset, states.count(PairState.STUCK)
        if isinstance(dataset, IterableDataset):
            covered = f"the {len(states)} pairs that pair_budget={self._budget:g} allows (the dataset has no known end)"
        else:
            covered = f"all {len(dataset)} pairs of the training dataset"
        if stuck == 0:
            return (
                f"It has converged: of {covered}, every one is beyond both its bounds and has no gradient left. To go "
                "on, widen epsilon and epsilon_high, lower pg_beta, or start anew with this policy as the reference."
            )
        return (
            f"No gradient is left: of {covered}, every one is beyond its bounds, but {stuck} of {len(states)} that "
            "were scored were cut off on the wrong side, by delta or by the largest exponent. Raise delta, or lower "
            "the learning rate or pg_beta."
        )

    def _select(self, candidates: Candidates, wanted: int) -> list[ScoredPair]:
        """Bring the first live pairs, and others where they are too few, to the ranks whose share they fall in."""
        states = candidates.states
        live = [index for index, state in enumerate(states) if state == PairState.LIVE][:wanted]
        fillers = [index for index, state in enumerate(states) if state != PairState.LIVE][: wanted - len(live)]
        position_of = {index: position for position, index in enumerate(live + fillers)}
        chosen = [(position_of[number], pair) for number, pair in candidates.pairs if number in position_of]
        return exchange_rows(chosen, wanted, self._process_index, self._num_processes, self._gather_object)
