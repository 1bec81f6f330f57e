"""DAPO's configuration: TRL's GRPOConfig, the paper's defaults, and thirteen fields."""

import math
from dataclasses import dataclass, field

from trl import GRPOConfig

from .refusal import refusal
from .selection_checks import check_selection
from .token_weight_checks import check_weighting


# Loss types whose per-token terms are clipped between 1 - epsilon and 1 + epsilon_high.
CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
# Loss types that average over the rows of a micro-batch, so that a dead row would dilute them.
ROW_MEAN_LOSSES = ("grpo", "dr_grpo", "sapo", "luspo")
# Keys of `generation_kwargs` that would move the length limit without the punishment knowing.
LENGTH_LIMIT_KEYS = ("max_new_tokens", "max_length", "max_tokens")


@dataclass
class DAPOConfig(GRPOConfig):
    r"""
    Configuration of the [`DAPOTrainer`]: [`~trl.GRPOConfig`] with the setting of DAPO (https://huggingface.co/papers/2503.14476)
    as its defaults.

    `DAPOConfig()` is the paper's setting: token-level loss (`loss_type="dapo"`), clip-higher (`epsilon=0.2`,
    `epsilon_high=0.28`), no KL term (`beta=0.0`), sampling at temperature 1 and top_p 1, dynamic sampling and soft
    overlong punishment on, overlong filtering (`mask_truncated_completions`) off as in the paper's best run. Only
    `epsilon_high` differs from TRL's default; the rest TRL already has.

    Parameters:
        > Parameters whose default differs from GRPOConfig

        epsilon_high (`float`, *optional*, defaults to `0.28`):
            Upper clipping bound, decoupled from the lower one ("clip-higher").

        > Parameters that control dynamic sampling

        dynamic_sampling (`bool`, *optional*, defaults to `True`):
            Refill the generation batch until it holds only groups whose rewards differ.
        filter_rewards (`list[str]`, *optional*):
            Names of the reward functions that decide whether a group is informative, by their sum weighted with
            `reward_weights`. `None` means every reward function passed to the trainer. The overlong punishment never
            decides.
        filter_tolerance (`float`, *optional*, defaults to `1e-6`):
            A group is dead when `max - min` over its scored, live completions is at most this, in units of the
            reward. A group with fewer than two such completions is dead as well.
        generation_budget (`float`, *optional*, defaults to `10.0`):
            Most groups generated for one batch, as a multiple of the batch's groups.
        on_exhausted (`str`, *optional*, defaults to `"shrink"`):
            What happens when the budget is spent before the batch is full. `"shrink"`: the batch keeps its shape, its
            dead rows leave loss, KL, metrics and denominator. `"raise"`: an error with the diagnosis. A batch without
            a single informative group never moves the weights: with `"shrink"` training then ends in good order.
        carry_surplus (`bool`, *optional*, defaults to `True`):
            Let informative groups beyond the batch wait for the next one instead of throwing them away. They are
            scored by the policy that wrote them, so that their importance ratios are right when they are used.
        max_staleness (`int`, *optional*, defaults to `1`):
            Most generations that a group may wait. The oldest are used first.
        prompt_selection (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"`: the prompts of the dataset in shuffled order. `"predictive"`: prompts whose groups will
            probably be informative, by a running estimate of each prompt's pass rate; they replace the ones the
            sampler of the parent hands out. One draw in 20 asks no estimate. Selection shifts the distribution of the
            training prompts, so training rewards of different runs can no longer be compared: compare held-out ones.
        selection_cost (`str`, *optional*, defaults to `"groups"`):
            What `"predictive"` selection counts as the cost of a group, to draw those that are most informative for
            it. `"groups"`: the same for every group. `"tokens"`: half the same for every group, half in proportion to
            the usual completion length of its prompt. That saves tokens where lengths differ, and trains on the
            prompts with short answers first: of prompts equally informative, long ones hardly have their turn.
        pass_rate_column (`str`, *optional*):
            Column of the dataset with offline pass rates in [0, 1] (`None` or NaN where unknown), from which
            `"predictive"` starts. Without it, it starts from nothing.

        > Parameters that control the soft overlong punishment (equation 13 of the paper)

        soft_overlong_cache (`float`, *optional*, defaults to `0.2`):
            Length of the interval before `max_completion_length` in which the punishment grows from 0 to -1: below 1
            a fraction of `max_completion_length`, rounded to tokens; from 1 on a number of tokens. `0` turns the
            punishment off. Leave room above the longest right answer, or right answers are punished.
        soft_overlong_weight (`float`, *optional*, defaults to `1.0`):
            Weight of the punishment beside the task rewards.

        > Parameters that control the importance weights of tokens

        token_weighting (`str`, *optional*, defaults to `"uniform"`):
            `"uniform"`: every token weighs the same. `"entropy"`: a token weighs as much as the entropy of the policy
            that generated it, at its place. The trainer's argument `token_weight_fn` takes any other weights. The KL
            term and the evaluation are not weighted.
        token_weight_normalization (`str`, *optional*, defaults to `"batch"`):
            `"batch"`: the weights have mean 1 over the tokens of the optimizer step; for the losses `"dapo"`,
            `"cispo"`, `"vespo"`, `"dr_grpo"`. `"completion"`: the weights of a completion sum to 1, and the whole is
            divided by the number of live completions; for `"grpo"` and `"sapo"` with a ratio at token level.

    Raises:
        ValueError: for a value or a combination that cannot be honoured; the message names field, value, reason and
            remedy.
    """

    epsilon_high: float | None = field(
        default=0.28,
        metadata={"help": "Upper clipping bound, decoupled from the lower one (clip-higher)."},
    )
    dynamic_sampling: bool = field(
        default=True,
        metadata={"help": "Refill the generation batch until it holds only groups whose rewards differ."},
    )
    filter_rewards: list[str] | None = field(
        default=None,
        metadata={
            "help": "Names of the reward functions whose weighted sum decides whether a group is informative. If "
            "unset, every reward function decides. The overlong punishment never does."
        },
    )
    filter_tolerance: float = field(
        default=1e-6,
        metadata={
            "help": "A group is dead when max - min of its scored, live completions is at most this (reward units)."
        },
    )
    generation_budget: float = field(
        default=10.0,
        metadata={"help": "Most groups generated for one batch, as a multiple of the batch's groups."},
    )
    on_exhausted: str = field(
        default="shrink",
        metadata={
            "help": "When the budget is spent before the batch is full: 'shrink' trains on what there is, with the "
            "dead rows out of loss and denominator; 'raise' stops with the diagnosis."
        },
    )
    carry_surplus: bool = field(
        default=True,
        metadata={
            "help": "Let informative groups beyond the batch wait for the next one instead of throwing them away."
        },
    )
    max_staleness: int = field(
        default=1,
        metadata={"help": "Most generations that an informative group beyond the batch may wait."},
    )
    prompt_selection: str = field(
        default="uniform",
        metadata={
            "help": "'uniform': prompts in shuffled order. 'predictive': prompts whose groups will probably be "
            "informative, by a running estimate of their pass rates; one draw in 20 asks no estimate."
        },
    )
    selection_cost: str = field(
        default="groups",
        metadata={
            "help": "What predictive selection counts as the cost of a group: 'groups', the same for all; or 'tokens', "
            "half the same for all and half in proportion to the prompt's usual completion length."
        },
    )
    pass_rate_column: str | None = field(
        default=None,
        metadata={"help": "Column with offline pass rates in [0, 1] from which predictive selection starts."},
    )
    soft_overlong_cache: float = field(
        default=0.2,
        metadata={
            "help": "Interval before max_completion_length in which the overlong punishment grows from 0 to -1: below "
            "1 a fraction of max_completion_length, from 1 on a number of tokens, 0 for no punishment."
        },
    )
    soft_overlong_weight: float = field(
        default=1.0,
        metadata={"help": "Weight of the overlong punishment beside the task rewards."},
    )
    token_weighting: str = field(
        default="uniform",
        metadata={"help": "Importance weights of the tokens: 'uniform', or 'entropy' of the policy that generated."},
    )
    token_weight_normalization: str = field(
        default="batch",
        metadata={
            "help": "'batch': weights of mean 1 over the tokens of the optimizer step, for token means. 'completion': "
            "the weights of a completion sum to 1, for means over completions."
        },
    )

    @property
    def soft_overlong_tokens(self) -> int:
        """L_cache in tokens; 0 when the punishment is off."""
        if self.soft_overlong_cache < 1:
            return round(self.soft_overlong_cache * self.max_completion_length)
        return int(self.soft_overlong_cache)

    def __post_init__(self):
        super().__post_init__()
        self._refuse_sampling_values()
        self._refuse_punishment_values()
        self._refuse_objective_combinations()
        check_selection(self)
        check_weighting(self)

    def _refuse_sampling_values(self):
        if self.filter_rewards is not None and not self.filter_rewards:
            raise refusal(
                "filter_rewards",
                self.filter_rewards,
                "no reward function would be left to decide",
                "name at least one reward function, or leave it None for all of them",
            )
        if not (math.isfinite(self.filter_tolerance) and self.filter_tolerance >= 0):
            raise refusal(
                "filter_tolerance",
                self.filter_tolerance,
                "it is compared with max - min of a group's rewards, which is never negative",
                "give a finite number of at least 0, such as 1e-6",
            )
        if not (math.isfinite(self.generation_budget) and self.generation_budget >= 1):
            raise refusal(
                "generation_budget",
                self.generation_budget,
                "it is a multiple of the batch's groups and the first round generates the batch once",
                "give a finite number of at least 1.0; the paper's run allows about 10",
            )
        if self.on_exhausted not in ("shrink", "raise"):
            raise refusal(
                "on_exhausted",
                self.on_exhausted,
                "there is no such policy",
                "choose 'shrink' or 'raise'",
            )

    def _refuse_punishment_values(self):
        cache, limit = self.soft_overlong_cache, self.max_completion_length
        if not (math.isfinite(cache) and cache >= 0):
            raise refusal(
                "soft_overlong_cache", cache, "a length cannot be negative or infinite", "give 0 to turn it off"
            )
        if cache >= 1 and cache != int(cache):
            raise refusal(
                "soft_overlong_cache",
                cache,
                "from 1 on it is a number of tokens",
                "give a whole number, or a fraction below 1",
            )
        if cache > 0 and not 1 <= self.soft_overlong_tokens <= limit:
            raise refusal(
                "soft_overlong_cache",
                cache,
                f"it comes to {self.soft_overlong_tokens} tokens where max_completion_length is {limit}",
                f"choose between 1 and {limit} tokens, or 0 for no punishment",
            )
        if not (math.isfinite(self.soft_overlong_weight) and self.soft_overlong_weight >= 0):
            raise refusal(
                "soft_overlong_weight",
                self.soft_overlong_weight,
                "a negative weight would reward overlong completions",
                "give a finite number of at least 0",
            )
        if cache > 0 and self.multi_objective_aggregation == "normalize_then_sum":
            raise refusal(
                "multi_objective_aggregation",
                self.multi_objective_aggregation,
                "it would give the overlong punishment the full weight of a normalised reward",
                "set soft_overlong_cache=0, or multi_objective_aggregation='sum_then_normalize'",
            )
        moved = [key for key in LENGTH_LIMIT_KEYS if key in (self.generation_kwargs or {})]
        if cache > 0 and moved:
            raise refusal(
                "generation_kwargs",
                self.generation_kwargs,
                f"`{moved[0]}` moves the length limit that the overlong punishment is measured from",
                "set max_completion_length instead, or soft_overlong_cache=0",
            )

    def _refuse_objective_combinations(self):
        if self.steps_per_generation % self.gradient_accumulation_steps != 0:
            raise refusal(
                "steps_per_generation",
                self.steps_per_generation,
                f"it is no multiple of gradient_accumulation_steps={self.gradient_accumulation_steps}, so an "
                "optimizer step would span two generations and have no exact token count",
                "make it a multiple of gradient_accumulation_steps",
            )
        epsilon_high = self.epsilon if self.epsilon_high is None else self.epsilon_high
        if self.loss_type in CLIPPED_LOSSES and self.delta is not None and self.delta < 1 + epsilon_high:
            raise refusal(
                "delta",
                self.delta,
                f"below 1 + epsilon_high = {1 + epsilon_high:g} it cuts completions of positive advantage too",
                f"choose delta > {1 + epsilon_high:g} (the DAPO run used 10)",
            )
        if self.loss_type == "cispo" and epsilon_high < 1:
            raise refusal(
                "epsilon_high",
                epsilon_high,
                "with loss_type='cispo' it is the largest importance weight itself, not its distance from 1",
                "set epsilon_high=5.0 as ScaleRL does",
            )
        drops_rows = self.mask_truncated_completions or self.dynamic_sampling
        if self.loss_type == "bnpo" and self.dynamic_sampling and self.on_exhausted == "shrink":
            raise refusal(
                "loss_type",
                self.loss_type,
                "it averages each micro-batch by itself, so micro-batches left without live rows would dilute it",
                "use loss_type='dapo', the same mean over the whole optimizer step, or on_exhausted='raise'",
            )
        entropy_bonus = self.use_adaptive_entropy or self.entropy_coef != 0
        if self.loss_type in ROW_MEAN_LOSSES and drops_rows and entropy_bonus:
            raise refusal(
                "entropy_coef",
                self.entropy_coef,
                f"loss_type={self.loss_type!r} is rescaled to the rows that are left when some are dropped, and the "
                "entropy bonus must not be",
                "use loss_type='dapo', or set dynamic_sampling=False and mask_truncated_completions=False",
            )
