"""Dynamic sampling (DAPO, section 3.2): sample, score, select, refill until the batch holds informative groups only."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate.logging import get_logger

from ..resume.checkpoint import SamplingState
from .diagnosis import DeadGroups, GenerationBudgetExhausted, NoInformativeGroups, diagnose
from .group_filter import Verdict, deciding_rewards, judge_groups
from .group_pool import GroupPool, rank_slice
from .ledger import Ledger, count_dead
from .prompt_sources import Examples, PromptSource, RankShare, RoundPrompts
from .rollouts import Round, SampledBatch
from .surplus import Choice, Surplus, choose_groups
from .surplus_state import pack_surplus, unpack_surplus


logger = get_logger(__name__)

# Shrunk batches in a row after which the user is told, once, what the matter is.
SHRUNK_BEFORE_WARNING = 3

Report = Callable[[Round, dict[str, float]], None]


@dataclass(frozen=True)
class SamplingRules:
    """What dynamic sampling needs to know of the run; fixed for its whole length."""

    share: RankShare  # groups of a batch, completions per group, ranks
    weights: torch.Tensor  # (F,), TRL's reward weights
    task_columns: list[int]  # reward functions that score the task, i.e. not the length
    deciding_columns: list[int]  # those of them that decide whether a group is informative
    filter_tolerance: float
    filter_truncated: bool  # truncated completions do not count (overlong filtering)
    generation_budget: float
    on_exhausted: str
    max_staleness: int  # generations an informative group may wait; 0 where surplus is not carried

    @property
    def group_limit(self) -> int:
        """Most groups generated for one batch."""
        return int(self.generation_budget * self.share.batch_groups)


class DynamicSampler:
    """
    Fills generation batches with informative groups.

    Every decision is taken on rewards gathered over the ranks, so that all ranks keep the same groups and generate the
    same number of times.

    Args:
        rules ([`SamplingRules`]):
            The run's settings.
        prompts ([`PromptSource`]):
            Chooses the prompts of every round.
        gather_object (`Callable`):
            Concatenates a list over ranks.

    Attributes:
        ledger ([`Ledger`]):
            Totals over the run.
        surplus ([`Surplus`]):
            Informative groups that wait for the next batch.
        generation (`int`):
            Batches filled so far.
    """

    def __init__(self, rules: SamplingRules, prompts: PromptSource, gather_object: Callable[[list], list]):
        self.rules = rules
        self.prompts = prompts
        self.ledger = Ledger()
        self.surplus = Surplus()
        self.generation = 0
        self._gather_object = gather_object

    def fill(self, examples: Examples, roll_out: Callable[[Examples], Round], report: Report) -> SampledBatch:
        """
        Generate until the batch is full or the budget is spent.

        Args:
            examples (`list[dict]`):
                This rank's share of the first round's `N * G` rows, as the host's sampler gave them.
            roll_out (`Callable`):
                Generates and scores this rank's rows of a round.
            report (`Callable`):
                Receives everything generated for this batch and its metrics, also when it ends in an error.

        Returns:
            [`SampledBatch`]: with exactly `N * G` rows over all ranks; dead groups fill what is missing when the budget
            was spent.

        Raises:
            GenerationBudgetExhausted: the batch is not full and `on_exhausted="raise"`.
            NoInformativeGroups: not one group was informative.
        """
        rules, waiting = self.rules, self.surplus.keys
        self.generation += 1
        missing = rules.share.batch_groups - len(waiting)
        drawn: RoundPrompts | None = self.prompts.first(examples, missing, waiting, rules.group_limit)
        rounds: list[Round] = []
        keys = []
        verdicts = torch.empty(0, dtype=torch.long)
        while drawn is not None:
            rounds.append(roll_out(drawn.examples))
            keys += drawn.keys
            fresh = self._judge(rounds[-1])
            verdicts = torch.cat([verdicts, fresh])
            missing -= int((fresh == Verdict.INFORMATIVE).sum())
            drawn = self.prompts.refill(missing, rules.group_limit - verdicts.numel()) if missing > 0 else None
        return self._finish(rounds, verdicts, keys, report)

    def state(self) -> SamplingState:
        """Everything the next batch depends on; called on every rank."""
        rows = self._gather_object(self.surplus.groups.rows if self.surplus.groups else [])
        values = {
            "prompt_selection": self.prompts.name,
            "generation": self.generation,
            "prompts": self.prompts.state_dict(),
            "ledger": self.ledger.state_dict(),
        }
        return SamplingState(values, self.prompts.array_state(), *(pack_surplus(self.surplus, rows) if rows else ()))

    def load_state(self, state: SamplingState) -> None:
        """Continue from [`state`], of a run with the same prompt selection."""
        values, share = state.values, self.rules.share
        self.generation = values["generation"]
        self.prompts.load_state_dict(values["prompts"], state.arrays)
        self.ledger.load_state_dict(values["ledger"])
        self.surplus = Surplus()
        if state.waiting is not None:
            oldest = self.generation + 1 - self.rules.max_staleness
            waiting = (state.waiting, state.waiting_arrays, state.waiting_examples)
            self.surplus = unpack_surplus(*waiting, oldest, share.process_index, share.num_processes)

    def _counting_rewards(self, part: Round) -> torch.Tensor:
        """Deciding reward of each completion, NaN where it does not count."""
        rewards = deciding_rewards(part.rewards_per_func.cpu(), self.rules.weights, self.rules.deciding_columns)
        return rewards.masked_fill(part.truncated.cpu(), torch.nan) if self.rules.filter_truncated else rewards

    def _judge(self, part: Round) -> torch.Tensor:
        rewards = self._counting_rewards(part)
        self.ledger.reward_range.update(rewards)
        verdicts = judge_groups(rewards, self.rules.share.num_generations, self.rules.filter_tolerance)
        bounds = self.ledger.reward_range.pass_bounds(self.rules.filter_tolerance)
        self.prompts.learn(rewards, verdicts, bounds, part.lengths.cpu())
        return verdicts

    def _finish(self, rounds: list[Round], verdicts: torch.Tensor, keys: list, report: Report) -> SampledBatch:
        """Count, report, and hand out the first informative groups, or say why there are too few."""
        rules, wanted = self.rules, self.rules.share.batch_groups
        generated = Round.join(rounds)
        choice = choose_groups(verdicts, self.surplus.written_at, self.generation, wanted, rules.max_staleness)
        bounds = self.ledger.reward_range.bounds(rules.filter_tolerance)
        dead = count_dead(self._counting_rewards(generated), verdicts, rules.share.num_generations, bounds)
        pool = self._pool(rounds)
        self._count(generated, verdicts.numel(), len(choice.kept))
        report(
            generated, {**self._metrics(generated, verdicts, pool, choice, dead, len(rounds)), **self.prompts.metrics()}
        )
        if len(choice.kept) < wanted:
            diagnosis = diagnose(dead, len(choice.kept), wanted, verdicts.numel(), rules.generation_budget)
            if rules.on_exhausted == "raise":
                raise GenerationBudgetExhausted(diagnosis)
            if len(choice.kept) == 0:
                raise NoInformativeGroups(diagnosis)
            if self.ledger.shrunk_in_a_row == SHRUNK_BEFORE_WARNING:
                logger.warning(f"{SHRUNK_BEFORE_WARNING} batches in a row were shrunk. {diagnosis}")
        return self._hand_out(generated, pool, choice, self.surplus.keys + keys)

    def _pool(self, rounds: list[Round]) -> GroupPool:
        """Groups in the order of [`choose_groups`]: those that waited, then those just generated."""
        waited, share = self.surplus.groups, self.rules.share
        parts = [waited.to(rounds[0].lengths.device), *rounds] if waited else rounds
        return GroupPool(parts, share.num_generations, share.process_index, share.num_processes, self._gather_object)

    def _hand_out(self, generated: Round, pool: GroupPool, choice: Choice, keys: list) -> SampledBatch:
        """Bring the rows of the batch, and those that wait, to the ranks whose share they fall in."""
        rules = self.rules
        live_rows = len(choice.kept) * rules.share.num_generations
        batch = pool.take(torch.cat([choice.kept, choice.fillers]))
        rewards = batch.rewards_per_func.clone()
        rewards[live_rows:] = torch.nan
        if rules.filter_truncated:
            rewards[batch.truncated] = torch.nan
        first = rank_slice(len(rewards), rules.share.process_index, rules.share.num_processes).start
        for position, row in enumerate(batch.rows, first):
            row.kept = position < live_rows
        waiting = pool.take(choice.staying)
        self.surplus = Surplus(waiting, choice.staying_written_at, [keys[group] for group in choice.staying])
        return SampledBatch(
            rows=batch.rows,
            rewards_per_func=rewards,
            dropped=pool.rest(torch.cat([choice.kept, choice.fillers, choice.staying])),
            generated=generated,
            carried_groups=choice.carried,
            waiting=waiting.rows,
            num_waiting=len(choice.staying) * rules.share.num_generations,
        )

    def _count(self, generated: Round, groups: int, kept: int) -> None:
        ledger, wanted = self.ledger, self.rules.share.batch_groups
        ledger.generated_groups += groups
        ledger.generated_tokens += int(generated.lengths.sum())
        ledger.trained_groups += wanted if kept else 0
        ledger.informative_groups += kept
        ledger.shrunk_in_a_row = ledger.shrunk_in_a_row + 1 if kept < wanted else 0

    def _metrics(
        self, generated: Round, verdicts: torch.Tensor, pool: GroupPool, choice: Choice, dead: DeadGroups, rounds: int
    ) -> dict[str, float]:
        kept, tokens = len(choice.kept), generated.lengths.sum().item()
        values = {
            "generated_groups": verdicts.numel(),
            "kept_groups": kept,
            "accept_rate": (verdicts == Verdict.INFORMATIVE).double().mean().item(),
            "rounds": rounds,
            "dead_all_correct": dead.all_correct,
            "dead_all_wrong": dead.all_wrong,
            "surplus": choice.surplus,
            "staleness_max": choice.staleness_max,
            "dropped_stale": choice.dropped_stale,
            "exhausted": float(kept < self.rules.share.batch_groups),
            "reward_all": self._task_rewards(generated).nanmean().item(),
            "reward_kept": self._task_rewards(pool.joined)[choice.kept].nanmean().item(),
            "tokens_per_kept_group": tokens / kept if kept else torch.nan,
        }
        return {f"dynamic_sampling/{name}": value for name, value in values.items()}

    def _task_rewards(self, part: Round) -> torch.Tensor:
        """Task reward of each completion, one row for each group."""
        rewards = deciding_rewards(part.rewards_per_func.cpu(), self.rules.weights, self.rules.task_columns)
        return rewards.view(-1, self.rules.share.num_generations)
