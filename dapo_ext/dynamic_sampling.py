"""Dynamic sampling (DAPO, section 3.2): sample, score, select, refill until the batch holds informative groups only."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate.logging import get_logger

from .diagnosis import DeadGroups, GenerationBudgetExhausted, NoInformativeGroups, diagnose
from .group_filter import Verdict, deciding_rewards, judge_groups
from .ledger import Ledger, count_dead
from .prompt_stream import PromptStream, prompt_key
from .refill import AcceptRate, refill_size, shared_multiple
from .rollouts import Round, SampledBatch, exchange_rows


logger = get_logger(__name__)

# Shrunk batches in a row after which the user is told, once, what the matter is.
SHRUNK_BEFORE_WARNING = 3

Examples = list[dict[str, Any]]
Report = Callable[[Round, dict[str, float]], None]


@dataclass(frozen=True)
class SamplingRules:
    """What dynamic sampling needs to know of the run; fixed for its whole length."""

    batch_groups: int  # groups of a generation batch over all ranks, N
    num_generations: int  # completions per group, G
    weights: torch.Tensor  # (F,), TRL's reward weights
    task_columns: list[int]  # reward functions that score the task, i.e. not the length
    deciding_columns: list[int]  # those of them that decide whether a group is informative
    filter_tolerance: float
    filter_truncated: bool  # truncated completions do not count (overlong filtering)
    generation_budget: float
    on_exhausted: str
    num_processes: int = 1
    process_index: int = 0
    whole_groups: bool = False  # a refill gives every rank whole groups, because a reward function compares within them

    @property
    def group_limit(self) -> int:
        """Most groups generated for one batch."""
        return int(self.generation_budget * self.batch_groups)


class DynamicSampler:
    """
    Fills generation batches with informative groups.

    Every decision is taken on rewards gathered over the ranks, so that all ranks keep the same groups and generate the
    same number of times.

    Args:
        rules ([`SamplingRules`]):
            The run's settings.
        stream ([`PromptStream`]):
            Extra prompts.
        gather_object (`Callable`):
            Concatenates a list over ranks.
    """

    def __init__(self, rules: SamplingRules, stream: PromptStream, gather_object: Callable[[list], list]):
        self.rules = rules
        self.stream = stream
        self.ledger = Ledger()
        self.accept_rate = AcceptRate()
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
        rules, wanted = self.rules, self.rules.batch_groups
        ranks = rules.num_processes
        multiple = ranks if rules.whole_groups else shared_multiple(ranks, rules.num_generations)
        seen = set(self._gather_object([prompt_key(example) for example in examples]))
        rounds: list[Round] = []
        verdicts = torch.empty(0, dtype=torch.long)
        self.accept_rate.age()
        while True:
            rounds.append(roll_out(examples))
            fresh = self._judge(rounds[-1])
            verdicts = torch.cat([verdicts, fresh])
            informative = (verdicts == Verdict.INFORMATIVE).sum().item()
            self.accept_rate.update((fresh == Verdict.INFORMATIVE).sum().item(), fresh.numel())
            if informative >= wanted:
                break
            budget_left = rules.group_limit - verdicts.numel()
            size = refill_size(wanted - informative, self.accept_rate.value, wanted, budget_left, multiple)
            if size == 0:
                break
            extra = self.stream.draw(size, avoid=seen)
            seen.update(prompt_key(example) for example in extra)
            examples = self._share(extra)
        return self._finish(rounds, verdicts, report)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next batch depends on, in plain types."""
        return {
            "prompt_stream": self.stream.state_dict(),
            "accept_rate": asdict(self.accept_rate),
            "ledger": self.ledger.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from [`state_dict`]."""
        self.stream.load_state_dict(state["prompt_stream"])
        self.accept_rate = AcceptRate(**state["accept_rate"])
        self.ledger.load_state_dict(state["ledger"])

    def _share(self, groups: Examples) -> Examples:
        """This rank's contiguous share of the rows of some groups; every row is an object of its own."""
        rules = self.rules
        share = len(groups) * rules.num_generations // rules.num_processes
        rows = range(rules.process_index * share, (rules.process_index + 1) * share)
        return [copy.deepcopy(groups[row // rules.num_generations]) for row in rows]

    def _counting_rewards(self, part: Round) -> torch.Tensor:
        """Deciding reward of each completion, NaN where it does not count."""
        rewards = deciding_rewards(part.rewards_per_func.cpu(), self.rules.weights, self.rules.deciding_columns)
        return rewards.masked_fill(part.truncated.cpu(), torch.nan) if self.rules.filter_truncated else rewards

    def _judge(self, part: Round) -> torch.Tensor:
        rewards = self._counting_rewards(part)
        self.ledger.reward_range.update(rewards)
        return judge_groups(rewards, self.rules.num_generations, self.rules.filter_tolerance)

    def _finish(self, rounds: list[Round], verdicts: torch.Tensor, report: Report) -> SampledBatch:
        """Count, report, and hand out the first informative groups, or say why there are too few."""
        rules, wanted = self.rules, self.rules.batch_groups
        generated = Round.join(rounds)
        bounds = self.ledger.reward_range.bounds(rules.filter_tolerance)
        dead = count_dead(self._counting_rewards(generated), verdicts, rules.num_generations, bounds)
        informative = (verdicts == Verdict.INFORMATIVE).nonzero().flatten()
        kept = informative[:wanted]
        self._count(generated, verdicts.numel(), len(kept))
        report(generated, self._metrics(generated, verdicts, kept, dead, len(rounds)))
        if len(kept) < wanted:
            diagnosis = diagnose(dead, len(kept), wanted, verdicts.numel(), rules.generation_budget)
            if rules.on_exhausted == "raise":
                raise GenerationBudgetExhausted(diagnosis)
            if len(kept) == 0:
                raise NoInformativeGroups(diagnosis)
            if self.ledger.shrunk_in_a_row == SHRUNK_BEFORE_WARNING:
                logger.warning(f"{SHRUNK_BEFORE_WARNING} batches in a row were shrunk. {diagnosis}")
        fillers = (verdicts != Verdict.INFORMATIVE).nonzero().flatten()[: wanted - len(kept)]
        return self._select(rounds, generated, kept, fillers)

    def _count(self, generated: Round, groups: int, kept: int) -> None:
        ledger, wanted = self.ledger, self.rules.batch_groups
        ledger.generated_groups += groups
        ledger.generated_tokens += generated.lengths.sum().item()
        ledger.trained_groups += wanted if kept else 0
        ledger.informative_groups += kept
        ledger.shrunk_in_a_row = ledger.shrunk_in_a_row + 1 if kept < wanted else 0

    def _metrics(
        self, generated: Round, verdicts: torch.Tensor, kept: torch.Tensor, dead: DeadGroups, rounds: int
    ) -> dict[str, float]:
        rules = self.rules
        informative = (verdicts == Verdict.INFORMATIVE).sum().item()
        task = deciding_rewards(generated.rewards_per_func.cpu(), rules.weights, rules.task_columns)
        by_group = task.view(-1, rules.num_generations)
        return {
            "generated_groups": verdicts.numel(),
            "kept_groups": len(kept),
            "accept_rate": informative / verdicts.numel(),
            "rounds": rounds,
            "dead_all_correct": dead.all_correct,
            "dead_all_wrong": dead.all_wrong,
            "surplus": informative - len(kept),
            "exhausted": float(len(kept) < rules.batch_groups),
            "reward_all": by_group.nanmean().item(),
            "reward_kept": by_group[kept].nanmean().item(),
            "tokens_per_kept_group": generated.lengths.sum().item() / len(kept) if len(kept) else torch.nan,
        }

    def _select(self, rounds: list[Round], generated: Round, kept: torch.Tensor, fillers: torch.Tensor) -> SampledBatch:
        """Bring the rows of the chosen groups to the ranks whose share they fall in."""
        rules, size = self.rules, self.rules.num_generations
        groups = torch.cat([kept, fillers])
        rows = (groups.unsqueeze(1) * size + torch.arange(size)).flatten()  # (N * G,), positions in `generated`
        position_of = {row: position for position, row in enumerate(rows.tolist())}

        rewards = generated.rewards_per_func[rows.to(generated.rewards_per_func.device)].clone()
        rewards[len(kept) * size :] = torch.nan
        if rules.filter_truncated:
            rewards[generated.truncated[rows.to(generated.truncated.device)]] = torch.nan

        chosen, dropped = [], []
        first = 0
        for part in rounds:
            start = first + rules.process_index * len(part.rows)
            for row, rollout in enumerate(part.rows, start):
                position = position_of.get(row)
                if position is None:
                    dropped.append(rollout)
                else:
                    rollout.kept = position < len(kept) * size
                    chosen.append((position, rollout))
            first += part.lengths.numel()
        share = exchange_rows(chosen, len(rows), rules.process_index, rules.num_processes, self._gather_object)
        return SampledBatch(rows=share, rewards_per_func=rewards, dropped=dropped, generated=generated)
