"""Dynamic sampling put together for a trainer."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from accelerate.utils import gather_object
from datasets import Dataset

from ..prompt_selection import PromptSelector, SelectionSettings
from ..refusals import refusal
from .dynamic_sampling import DynamicSampler, SamplingRules
from .predicted_prompts import PredictedPrompts
from .prompt_sources import PromptSource, RankShare, UniformPrompts
from .prompt_stream import PromptStream
from .reward_columns import find_comparing_rewards, find_deciding_columns, warn_of_comparisons


# Standard deviations by which a round of predicted prompts exceeds what is missing, when surplus is carried: the next
# batch uses what is too much, so the margin costs no rollouts and saves rounds.
CARRIED_MARGIN = 1.0
# Share of a group's cost that grows with its tokens, by `selection_cost`; half of it on the playground, where all of it
# fills batches with short groups that teach little
TOKEN_SHARES = {"groups": 0.0, "tokens": 0.5}


def build_sampler(trainer, task_columns: list[int]) -> DynamicSampler:
    """
    Build the sampler that a trainer's configuration asks for.

    Args:
        trainer (`DAPOTrainer`):
            After the host's constructor and the checks.
        task_columns (`list[int]`):
            Positions of the reward functions that score the task.

    Returns:
        [`DynamicSampler`]

    Raises:
        ValueError: for names or columns that the trainer does not have; with field, value, reason and remedy.
    """
    args = trainer.args
    deciding_columns = find_deciding_columns(trainer, args.filter_rewards, task_columns)
    comparing = find_comparing_rewards(trainer)
    warn_of_comparisons(trainer, deciding_columns, comparing)
    share = RankShare(
        batch_groups=args.generation_batch_size // trainer.num_generations,
        num_generations=trainer.num_generations,
        num_processes=trainer.accelerator.num_processes,
        process_index=trainer.accelerator.process_index,
        whole_groups=bool(comparing),
    )
    rules = SamplingRules(
        share=share,
        weights=trainer.reward_weights,
        task_columns=task_columns,
        deciding_columns=deciding_columns,
        filter_tolerance=args.filter_tolerance,
        filter_truncated=args.mask_truncated_completions,
        generation_budget=args.generation_budget,
        on_exhausted=args.on_exhausted,
        max_staleness=args.max_staleness if args.carry_surplus else 0,
    )
    return DynamicSampler(rules, _build_source(trainer, share), gather_object)


def _build_source(trainer, share: RankShare) -> PromptSource:
    args, dataset = trainer.args, trainer.train_dataset
    if args.prompt_selection == "predictive" and not isinstance(dataset, Dataset):
        raise refusal(
            "prompt_selection",
            args.prompt_selection,
            "an iterable dataset cannot be asked for the prompt that is wanted",
            "load the dataset with streaming=False, or set prompt_selection='uniform'",
        )
    pass_rates = None if args.pass_rate_column is None else read_pass_rates(dataset, args.pass_rate_column)
    if isinstance(dataset, Dataset):
        dataset = trainer._remove_unused_columns(dataset, description="training")
    if args.prompt_selection == "uniform":
        return UniformPrompts(PromptStream(dataset, args.seed, trainer.shuffle_dataset), share, gather_object)
    if share.batch_groups % share.num_processes != 0:
        # Rounds of whole groups per rank could then stop short of a batch; a group straddles ranks as it does in TRL
        share = replace(share, whole_groups=False)
    settings = SelectionSettings(token_share=TOKEN_SHARES[args.selection_cost])
    selector = PromptSelector(len(dataset), share.num_generations, share.batch_groups, args.seed, pass_rates, settings)
    margin = CARRIED_MARGIN if args.carry_surplus else 0.0
    return PredictedPrompts(dataset, selector, share, gather_object, margin)


def read_pass_rates(dataset: Dataset, column: str) -> np.ndarray:
    """
    Offline pass rates of all prompts.

    Returns:
        `np.ndarray` of shape `(N,)`, float64: NaN where the column has `None` or NaN.

    Raises:
        ValueError: when there is no such column, or a value is neither missing nor a number in [0, 1].
    """
    if column not in dataset.column_names:
        raise refusal(
            "pass_rate_column", column, "the dataset has no such column", f"choose from {dataset.column_names}"
        )
    values = dataset.with_format(None)[column][:]
    for row, value in enumerate(values):
        if value is not None and not _is_rate(value):
            reason = f"row {row} has {value!r} in it, which is no number in [0, 1]"
            raise refusal("pass_rate_column", column, reason, "give shares of right completions, None where unknown")
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and (math.isnan(value) or 0 <= value <= 1)
