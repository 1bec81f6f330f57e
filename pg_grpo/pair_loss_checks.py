"""Losses of a pair, and options of TRL's losses, that would not be what they say are refused."""

from trl import DPOConfig

from dapo_ext.refusals import refusal
from dapo_ext.refusals.value_checks import is_number


# Name of the offline PG loss among TRL's loss types.
PG_LOSS = "pg"
# TRL's loss types that read `label_smoothing`.
SMOOTHED_LOSSES = {"exo_pair", "robust", "aot", "aot_unpaired"}
DEFAULT_F_ALPHA = DPOConfig.f_alpha_divergence_coef
DEFAULT_DISCOPOP_TAU = DPOConfig.discopop_tau
# TRL's loss types, which may stand beside the offline PG loss.
TRL_LOSSES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
)


def check_losses(args) -> None:
    """
    Refuse loss types and weights among which the offline PG loss would be lost, and options it does not read.

    Args:
        args (`PGDPOConfig`):
            After the host's own checks.

    Raises:
        ValueError: naming field, value, reason and remedy.
    """
    if not isinstance(args.loss_type, list | tuple) or args.loss_type.count(PG_LOSS) != 1:
        raise refusal(
            "loss_type",
            args.loss_type,
            "the offline PG loss must be among the loss types once",
            "add 'pg', or use trl.DPOTrainer for TRL's losses alone",
        )
    unknown = [name for name in args.loss_type if name not in (PG_LOSS, *TRL_LOSSES)]
    if unknown:
        raise refusal(
            "loss_type", args.loss_type, f"there is no loss {unknown[0]!r}", f"choose from {TRL_LOSSES} beside 'pg'"
        )
    weight = 1.0 if args.loss_weights is None else args.loss_weights[args.loss_type.index(PG_LOSS)]
    if not (is_number(weight) and weight > 0):
        raise refusal(
            "loss_weights",
            args.loss_weights,
            f"the weight of 'pg' is {weight!r}, which would turn the loss off or around",
            "give it a finite weight above 0",
        )
    _check_options(args)


def _check_options(args) -> None:
    if args.ld_alpha is not None:
        raise refusal(
            "ld_alpha",
            args.ld_alpha,
            "it weights the tokens of a log-ratio, which would be no ratio of probabilities any more",
            "leave it None; pg_length_exponent is this loss's own control of length",
        )
    if args.f_divergence_type != "reverse_kl":
        raise refusal(
            "f_divergence_type",
            args.f_divergence_type,
            "the ratio is the exponential of the reverse-KL implicit reward",
            "leave it 'reverse_kl'",
        )
    if args.f_alpha_divergence_coef != DEFAULT_F_ALPHA:
        raise refusal(
            "f_alpha_divergence_coef",
            args.f_alpha_divergence_coef,
            "only f_divergence_type='alpha_divergence' reads it",
            "leave it at its default",
        )
    if args.use_weighting:
        raise refusal(
            "use_weighting",
            args.use_weighting,
            "it weights TRL's losses by how likely the policy is to write the pair, and would not reach 'pg'",
            "leave it False",
        )
    if args.label_smoothing != 0 and not SMOOTHED_LOSSES & set(args.loss_type):
        raise refusal(
            "label_smoothing",
            args.label_smoothing,
            f"none of loss_type={args.loss_type} reads it",
            "leave it 0, or add one of " + ", ".join(sorted(SMOOTHED_LOSSES)),
        )
    if args.discopop_tau != DEFAULT_DISCOPOP_TAU and "discopop" not in args.loss_type:
        raise refusal(
            "discopop_tau",
            args.discopop_tau,
            f"none of loss_type={args.loss_type} reads it",
            "leave it at its default, or add 'discopop'",
        )
