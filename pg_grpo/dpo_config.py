"""PG-DPO's configuration: TRL's DPOConfig, the offline PG loss as its loss type, and eight fields."""

from dataclasses import dataclass, field

from trl import DPOConfig

from dapo_ext.precision import settle_cpu_precision
from dapo_ext.refusals import refusal
from dapo_ext.refusals.value_checks import check_flags, check_unread, is_number

from .exponent_checks import check_exponent
from .pair_loss import PairObjective
from .pair_loss_checks import PG_LOSS, check_losses


@dataclass
class PGDPOConfig(DPOConfig):
    r"""
    Configuration of the [`PGDPOTrainer`]: [`~trl.DPOConfig`] with the offline PG loss (`loss_type=["pg"]`).

    A preference pair is a group of two with advantages +1 and -1, and the reference takes the place of the policy that
    generated it. With `D = log pi(y|x) - log pi_ref(y|x)`, `L` the tokens of `y` and `p = exp(pg_beta * L^-alpha * D)`,
    a pair costs `1/2 * (max(min(p_l, delta), 1 - epsilon) - min(p_w, 1 + epsilon_high))`. At `pi = pi_ref` and alpha 0
    the gradient is DPO's. Where DPO's sigmoid fades the gradient as the margin grows, here each side stops at a bound
    of its own: with the defaults a chosen completion at `D_w = 1.82` nats, a rejected one at `D_l = -2.23`.

    Parameters:
        > Parameters whose default differs from DPOConfig

        loss_type (`list[str]`, *optional*, defaults to `["pg"]`):
            `"pg"`, alone or with TRL's loss types beside it, weighted by `loss_weights`.
        beta (`float`, *optional*):
            TRL's name for the factor of the implicit reward; mirrors `pg_beta`. Another value is refused.

        > Parameters that control the loss

        pg_beta (`float`, *optional*, defaults to `0.1`):
            Exponent of the ratio, above 0. A smaller one widens the clip range in nats and shrinks the gradient.
        pg_length_exponent (`float`, *optional*, defaults to `0.0`):
            alpha in [0, 1]: the exponent of a completion of `L` tokens is `pg_beta * L^-alpha`.
        epsilon (`float`, *optional*, defaults to `0.2`):
            A rejected completion pulls until its ratio has fallen to `1 - epsilon`; from 1 on it never stops.
        epsilon_high (`float`, *optional*):
            A chosen completion pulls until its ratio has risen to `1 + epsilon_high`. `None` means `epsilon`.
        delta (`float`, *optional*):
            Largest ratio, above 1, at which a rejected completion still pulls. `None` for no such cap: the pull grows
            with the ratio.
        pg_aggregation (`str`, *optional*, defaults to `"sequence"`):
            `"sequence"`: mean over completions. `"token"`: mean over tokens (DAPO), each with its completion's loss.
            Either is taken over the whole optimizer step: all ranks, all micro-batches.

        > Parameters that control dynamic pairs

        dynamic_pairs (`bool`, *optional*, defaults to `False`):
            Fill batches with pairs that still have a gradient; the others are found by scoring pairs ahead.
        pair_budget (`float`, *optional*, defaults to `10.0`):
            Most pairs scored for one optimizer step, as a multiple of the step's pairs. When it is spent the step is
            taken on the pairs that were found. When none was found the search goes on through the whole dataset,
            and training ends as converged if that holds none either.

    Raises:
        ValueError: for a value or a combination that cannot be honoured; the message names field, value, reason and
            remedy.
    """

    made_for = "PGDPOTrainer"  # no field

    loss_type: list[str] = field(
        default_factory=lambda: [PG_LOSS],
        metadata={"help": "'pg', alone or with TRL's loss types beside it, weighted by `loss_weights`."},
    )
    beta: float | None = field(
        default=None,
        metadata={"help": "TRL's name for the factor of the implicit reward; mirrors `pg_beta`."},
    )
    pg_beta: float = field(
        default=0.1,
        metadata={"help": "Exponent of the ratio, above 0. A smaller one widens the clip range in nats."},
    )
    pg_length_exponent: float = field(
        default=0.0,
        metadata={"help": "alpha in [0, 1]: the exponent of a completion of L tokens is pg_beta * L^-alpha."},
    )
    epsilon: float = field(
        default=0.2,
        metadata={"help": "A rejected completion pulls until its ratio has fallen to 1 - epsilon."},
    )
    epsilon_high: float | None = field(
        default=None,
        metadata={"help": "A chosen completion pulls until its ratio has risen to 1 + epsilon_high; unset: epsilon."},
    )
    delta: float | None = field(
        default=None,
        metadata={"help": "Largest ratio, above 1, at which a rejected completion still pulls; unset: no cap."},
    )
    pg_aggregation: str = field(
        default="sequence",
        metadata={
            "help": "'sequence': mean over completions. 'token': mean over tokens, each with its completion's loss. "
            "Either is taken over the whole optimizer step."
        },
    )
    dynamic_pairs: bool = field(
        default=False,
        metadata={"help": "Fill batches with pairs that still have a gradient, found by scoring pairs ahead."},
    )
    pair_budget: float = field(
        default=10.0,
        metadata={"help": "Most pairs scored for one optimizer step, as a multiple of the step's pairs."},
    )

    @property
    def pair_objective(self) -> PairObjective:
        """The loss these fields describe."""
        return PairObjective(
            pg_beta=self.pg_beta,
            pg_length_exponent=self.pg_length_exponent,
            epsilon=self.epsilon,
            epsilon_high=self.epsilon if self.epsilon_high is None else self.epsilon_high,
            delta=self.delta,
            aggregation=self.pg_aggregation,
        )

    def __post_init__(self):
        self._refuse_ratio_values()
        if self.beta is None:
            self.beta = self.pg_beta
        self.bf16 = settle_cpu_precision(self.bf16, self.fp16, self.use_cpu)
        super().__post_init__()
        self._refuse_clip_values()
        check_losses(self)
        self._refuse_budget()
        self._refuse_uneven_ranks()
        if self.dynamic_pairs:
            self._refuse_with_dynamic_pairs()
        else:
            check_unread(self, ("pair_budget",), "dynamic_pairs")

    def _refuse_ratio_values(self):
        check_exponent(self)
        if self.beta is not None and self.beta != self.pg_beta:
            raise refusal(
                "beta",
                self.beta,
                f"it mirrors pg_beta={self.pg_beta!r}, the exponent of the ratio",
                "set pg_beta alone",
            )

    def _refuse_clip_values(self):
        for name in ("epsilon", "epsilon_high"):
            value = getattr(self, name)
            if not (is_number(value) and value > 0) and (name == "epsilon" or value is not None):
                raise refusal(
                    name,
                    value,
                    "at the reference every ratio is 1, and without room around 1 no pair would ever pull",
                    "give a finite number above 0, such as 0.2",
                )
        if self.delta is not None and not (is_number(self.delta) and self.delta > 1):
            raise refusal(
                "delta",
                self.delta,
                "at the reference every ratio is 1, and no rejected completion would ever pull",
                "give a finite number above 1, such as 10, or leave it None",
            )
        if self.pg_aggregation not in ("sequence", "token"):
            raise refusal(
                "pg_aggregation", self.pg_aggregation, "there is no such mean", "choose 'sequence' or 'token'"
            )

    def _refuse_budget(self):
        check_flags(self, ("dynamic_pairs",))
        if not (is_number(self.pair_budget) and self.pair_budget >= 1):
            raise refusal(
                "pair_budget",
                self.pair_budget,
                "it is a multiple of the step's pairs, which are scored once to begin with",
                "give a finite number of at least 1.0",
            )

    def _refuse_uneven_ranks(self):
        if self.train_sampling_strategy == "batch_rebalance" and (self.dynamic_pairs or self.world_size > 1):
            reason = "ranks draw batches of sizes of their own, while pairs and metrics are gathered from equal ones"
            remedy = "choose 'random' or 'group_by_length'"
            raise refusal("train_sampling_strategy", self.train_sampling_strategy, reason, remedy)

    def _refuse_with_dynamic_pairs(self):
        remedy = "set dynamic_pairs=False to use it"
        if self.loss_type != [PG_LOSS]:
            reason = "pairs that 'pg' has done with still have a gradient under the other losses"
            raise refusal("loss_type", self.loss_type, reason, remedy)
        if self.sync_ref_model:
            reason = "every pair comes back when the reference moves, so that none is ever done with"
            raise refusal("sync_ref_model", self.sync_ref_model, reason, remedy)
        accelerator_config = self.accelerator_config
        if not accelerator_config.even_batches or accelerator_config.dispatch_batches:
            reason = "pairs are exchanged between ranks that draw batches of equal size, each its own"
            raise refusal("accelerator_config", accelerator_config.to_dict(), reason, remedy)
