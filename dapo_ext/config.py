"""DAPO's configuration: TRL's GRPOConfig, the paper's defaults, and fields of its own."""

from dataclasses import dataclass, field

from trl import GRPOConfig

from .precision import settle_cpu_precision
from .refusals.objective_checks import check_objective
from .refusals.punishment_checks import check_punishment
from .refusals.selection_checks import check_sampling, check_selection
from .refusals.token_weight_checks import check_weighting


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
            divided by the number of live completions; for `"grpo"` and `"sapo"` with a ratio at token level. The
            trainer refuses the latter where no tokens are weighted.

    Raises:
        ValueError: for a value or a combination that cannot be honoured; the message names field, value, reason and
            remedy.
    """

    made_for = "DAPOTrainer"  # no field

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
        if self.soft_overlong_cache == 0:
            return 0
        if self.soft_overlong_cache < 1:
            return round(self.soft_overlong_cache * self.max_completion_length)
        return int(self.soft_overlong_cache)

    def __post_init__(self):
        self.bf16 = settle_cpu_precision(self.bf16, self.fp16, self.use_cpu)
        super().__post_init__()
        check_sampling(self)
        check_punishment(self)
        check_objective(self)
        check_selection(self)
        check_weighting(self)
