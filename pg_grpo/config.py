"""PG-GRPO's configuration: DAPOConfig, the method's defaults, and three fields."""

from dataclasses import dataclass, field

from dapo_ext import DAPOConfig
from dapo_ext.refusals import refusal
from dapo_ext.refusals.value_checks import is_number

from .exponent_checks import check_exponent


RATIO_LEVELS = ("sequence", "token")
# Loss types that clip the ratio and do nothing else with it.
RATIO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")


@dataclass
class PGGRPOConfig(DAPOConfig):
    r"""
    Configuration of the [`PGGRPOTrainer`]: [`~dapo_ext.DAPOConfig`] with PG-GRPO as proposed for its defaults.

    The probability ratio is replaced by the preference ratio `p_i = exp(b_i * D_i)`, with `D_i = log pi(y_i|x) -
    log pi_old(y_i|x)` and `b_i = pg_beta * L_i^-alpha`. `PGGRPOConfig()` has a constant `b = 0.1`, a symmetric clip of
    0.2, the centred advantage `R_i - mean R`, the mean over sequences, and a KL term to the original policy. DAPO's
    switches are off and one field away: `dynamic_sampling=True`, `soft_overlong_cache=0.2`, `epsilon_high=0.28`,
    `loss_type="dapo"`.

    Parameters:
        > Parameters of the preference ratio

        pg_beta (`float`, *optional*, defaults to `0.1`):
            Exponent of the ratio, above 0. The clip `[1 - e_lo, 1 + e_hi]` of `p` lies at `[(1 - e_lo)^(1/b),
            (1 + e_hi)^(1/b)]` of the plain ratio: a smaller `pg_beta` widens the trust region and shrinks the gradient
            by the same factor. (TRL's `beta` is the coefficient of the KL term.)
        pg_length_exponent (`float`, *optional*, defaults to `0.0`):
            `alpha` in [0, 1] of `b_i = pg_beta * L_i^-alpha`. `1.0` with `pg_beta=1.0` is GSPO.
        ratio_level (`str`, *optional*, defaults to `"sequence"`):
            `"sequence"`: one ratio per completion, `p_i`. `"token"`: `p_it = exp(pg_beta * d_it)`, which has no length
            to scale by; with `pg_beta=1.0` it is GRPO's.

        > Parameters whose default differs from DAPOConfig

        epsilon_high (`float`, *optional*):
            `None`: the clip is symmetric.
        scale_rewards (`str` or `bool`, *optional*, defaults to `"none"`):
            The advantage is not divided by a standard deviation.
        loss_type (`str`, *optional*, defaults to `"grpo"`):
            With the sequence ratio `1/N sum_i l_i`, since every token of a completion has the same surrogate.
            `"dapo"`, `"dr_grpo"` and `"bnpo"` weight a completion by its length.
        beta (`float`, *optional*, defaults to `0.001`):
            Coefficient of the KL term, which `pg_beta` does not touch. Per token its gradient has the weight
            `beta / (b_i L_i)` beside that of the surrogate (`beta / pg_beta` with the token ratio), logged as
            `pg_grpo/kl_weight`. Its k3 form has on-policy the gradient of KL(ref || pi), a known bias.
        use_bias_correction_kl (`bool`, *optional*, defaults to `False`):
            `True` is refused: it multiplies the KL term by the ratio, which here is `p`.
        importance_sampling_level (`str`, *optional*):
            Follows `ratio_level`; another value is refused.
        dynamic_sampling (`bool`, *optional*, defaults to `False`):
            Off.
        soft_overlong_cache (`float`, *optional*, defaults to `0.0`):
            No punishment.

    Raises:
        ValueError: for a value or a combination that cannot be honoured; the message names field, value, reason and
            remedy.
    """

    made_for = "PGGRPOTrainer"  # no field

    pg_beta: float = field(
        default=0.1,
        metadata={
            "help": "Exponent of the preference ratio, above 0. A smaller one widens the trust region and shrinks the "
            "gradient. (`beta` is the coefficient of the KL term.)"
        },
    )
    pg_length_exponent: float = field(
        default=0.0,
        metadata={
            "help": "alpha in [0, 1]: the exponent of a completion of L tokens is pg_beta * L^-alpha. 1 with pg_beta "
            "1 is GSPO."
        },
    )
    ratio_level: str = field(
        default="sequence",
        metadata={"help": "'sequence': one ratio per completion. 'token': one per token, exp(pg_beta * d_it)."},
    )
    epsilon_high: float | None = field(
        default=None,
        metadata={"help": "Upper clipping bound. If unset, the clip is symmetric."},
    )
    scale_rewards: str = field(
        default="none",
        metadata={
            "help": "Scaling of the advantages: 'none' (centred alone), 'group' or 'batch' (divided by the standard "
            "deviation of the group or the batch)."
        },
    )
    loss_type: str = field(
        default="grpo",
        metadata={
            "help": "Aggregation: 'grpo' (mean over completions), 'dapo', 'dr_grpo' or 'bnpo' (which weight a "
            "completion by its length)."
        },
    )
    beta: float = field(
        default=0.001,
        metadata={"help": "Coefficient of the KL term to the original policy; pg_beta does not touch it."},
    )
    use_bias_correction_kl: bool = field(
        default=False,
        metadata={"help": "Must stay False: True would multiply the KL term by the preference ratio."},
    )
    importance_sampling_level: str | None = field(
        default=None,
        metadata={"help": "Follows ratio_level; another value is refused."},
    )
    dynamic_sampling: bool = field(
        default=False,
        metadata={"help": "Refill the generation batch until it holds only groups whose rewards differ."},
    )
    soft_overlong_cache: float = field(
        default=0.0,
        metadata={
            "help": "Interval before max_completion_length in which the overlong punishment grows from 0 to -1: below "
            "1 a fraction of max_completion_length, from 1 on a number of tokens, 0 for no punishment."
        },
    )

    @property
    def updates_per_generation(self) -> int:
        """Optimizer steps taken on one generation batch."""
        return self.steps_per_generation * self.num_iterations // self.gradient_accumulation_steps

    def __post_init__(self):
        self._refuse_ratio_values()
        self._refuse_other_ratios()
        self.importance_sampling_level = self.ratio_level
        super().__post_init__()

    def _refuse_ratio_values(self):
        check_exponent(self)
        if self.ratio_level not in RATIO_LEVELS:
            raise refusal("ratio_level", self.ratio_level, "there is no such level", "choose 'sequence' or 'token'")
        if self.ratio_level == "token" and self.pg_length_exponent != 0:
            raise refusal(
                "pg_length_exponent",
                self.pg_length_exponent,
                "the token ratio has no length to scale by",
                "leave it at 0, or use ratio_level='sequence'",
            )
        if self.importance_sampling_level not in (None, self.ratio_level):
            raise refusal(
                "importance_sampling_level",
                self.importance_sampling_level,
                f"it contradicts ratio_level={self.ratio_level!r}",
                "leave it out; it follows ratio_level",
            )

    def _refuse_other_ratios(self):
        if not (is_number(self.beta) and self.beta >= 0):
            reason = "a negative KL term would drive the policy away from the original one"
            raise refusal("beta", self.beta, reason, "give a finite number of at least 0; 0 is no KL term")
        if self.loss_type not in RATIO_LOSSES:
            raise refusal(
                "loss_type",
                self.loss_type,
                "it does something else with the ratio than clip it",
                f"choose from {RATIO_LOSSES}, or use DAPOTrainer",
            )
        if self.use_bias_correction_kl:
            raise refusal(
                "use_bias_correction_kl",
                self.use_bias_correction_kl,
                "it multiplies the KL term by the ratio, which here is the preference ratio and corrects no bias",
                "set it to False",
            )
        if self.off_policy_mask_threshold is not None:
            raise refusal(
                "off_policy_mask_threshold",
                self.off_policy_mask_threshold,
                "it measures a divergence from the log-probabilities that carry the preference ratio",
                "leave it None and bound the ratio of bad completions with delta",
            )
