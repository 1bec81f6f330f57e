"""PG-GRPO as a subclass of DAPOTrainer: another ratio in the parent's loss, and nothing else."""

from typing import Any

import torch
from accelerate.logging import get_logger
from accelerate.utils import is_peft_model
from trl.trainer.utils import get_config_model_id

from dapo_ext import DAPOTrainer
from dapo_ext.refusals import refusal
from dapo_ext.refusals.trainer_config import own_config

from .config import PGGRPOConfig
from .ratio import sequence_exponents, sequence_log_ratio, token_log_ratio
from .ratio_metrics import measure_ratio


logger = get_logger(__name__)

LOG_RATIO = "preference_log_ratio"  # where the loss leaves the ratio for the metrics, in its copy of the inputs


class PGGRPOTrainer(DAPOTrainer):
    r"""
    Trainer for Preference-Guided GRPO: [`~dapo_ext.DAPOTrainer`] with the preference ratio
    `p_i = exp(b_i * log(pi(y_i|x) / pi_old(y_i|x)))`, `b_i = pg_beta * L_i^-alpha`, in the place of the probability
    ratio.

    Arguments are those of [`~dapo_ext.DAPOTrainer`], with a [`PGGRPOConfig`] as `args`. The only change is the ratio
    that the clipped surrogate `-min(p * A, clip(p, 1 - e_lo, 1 + e_hi) * A)` is formed of; aggregation, KL term, vLLM
    correction, dynamic sampling and overlong handling are the parent's. The family it spans:

    | `ratio_level` | `pg_beta` | `pg_length_exponent` | the ratio is that of |
    |---|---|---|---|
    | `"sequence"` | 1 | 0 | REINFORCE with importance sampling: the plain ratio of the sequence |
    | `"sequence"` | 1 | 1 | GSPO |
    | `"sequence"` | beta | 0 | PG-GRPO: DPO's implicit reward, exponentiated |
    | `"token"` | 1 | 0 | GRPO and DAPO |

    With one update per generation `p = 1` but in groups that waited (`carry_surplus`): the clip is inert, and with a
    constant `b` the gradient is Dr. GRPO's up to a constant. The trainer warns of such a layout. Where gradients are
    not clipped, Adam cancels a constant `b`, so `pg_beta` sets the width of the clip and the relative weight of the KL
    term, and no more.

    Metrics, under `pg_grpo/`: `ratio_mean`, `ratio_min`, `ratio_max`, `clipped_low`, `clipped_high`, `exponent_mean`,
    `plain_log_ratio_low`, `plain_log_ratio_high` (the clip bounds in nats of the plain log-ratio) and, with `beta`,
    `kl_weight`. TRL's `clip_ratio/*` measure `p` as well.

    Example:
    ```python
    from datasets import load_dataset
    from pg_grpo import PGGRPOConfig, PGGRPOTrainer
    from trl.rewards import accuracy_reward

    trainer = PGGRPOTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        reward_funcs=accuracy_reward,
        args=PGGRPOConfig(output_dir="Qwen2.5-0.5B-PG-GRPO", steps_per_generation=8, gradient_accumulation_steps=1),
        train_dataset=load_dataset("trl-lib/DeepMath-103K", split="train"),
    )
    trainer.train()
    ```
    """

    _tag_names = ["trl", "pg-grpo"]  # noqa: RUF012 - the parent's form
    _name = "PG-GRPO"
    _paper = {}  # noqa: RUF012 - the parent's form; no paper describes it, and DAPO's does not either

    def __init__(self, model, reward_funcs=None, args: PGGRPOConfig | None = None, *trl_args, **trl_kwargs):
        args = own_config(self, PGGRPOTrainer, args, PGGRPOConfig, model)
        if args.beta != 0 and trl_kwargs.get("peft_config") is None and not _has_reference(model):
            raise refusal(
                "beta",
                args.beta,
                "the KL term's reference is loaded from the model's path, and a model made in memory has none",
                "save the model and pass its path, pass a peft_config, or set beta=0.0",
            )
        super().__init__(model, reward_funcs, args, *trl_args, **trl_kwargs)
        self._loss_inputs: dict[str, Any] | None = None  # of the loss being computed, None outside of it
        if args.updates_per_generation == 1:
            logger.warning(
                "There is one optimizer step per generation, so every ratio is exactly 1 when its gradient is taken, "
                "but in groups that waited (carry_surplus): the clip is inert, and the preference ratio scales the "
                "gradient and does nothing else. To train "
                f"off-policy, raise steps_per_generation above gradient_accumulation_steps="
                f"{args.gradient_accumulation_steps}, or num_iterations above 1."
            )

    def _compute_loss(self, model, inputs):
        self._loss_inputs = dict(inputs)
        try:
            loss = super()._compute_loss(model, self._loss_inputs)
            self._log_ratio_metrics(self._loss_inputs)
        finally:
            self._loss_inputs = None
        return loss

    def _get_per_token_logps_and_entropies(self, model, *args, **kwargs):
        """
        In the loss, leave old log-probabilities behind from which the parent forms `log p` as its log-ratio.

        The parent reads `old` after this call and subtracts it from `cur`, so `old = cur - log p` gives it the value
        and the gradient of `log p`: the two `cur` cancel. At sequence level it averages over the tokens that count,
        each of which carries the same `log p_i`. The KL term reads `cur` and the reference alone.
        """
        logps, entropies, aux_loss = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        inputs = self._loss_inputs
        if inputs is not None:
            logps = logps.to(torch.promote_types(logps.dtype, torch.float32))  # the two `cur` cancel in this type
            old_logps = inputs.get("old_per_token_logps")
            # The parent leaves them out where the policy is still the one that generated
            old_logps = logps.detach() if old_logps is None else old_logps
            log_ratio = self._form_log_ratio(logps, old_logps, _loss_mask(inputs))
            inputs["old_per_token_logps"] = logps - log_ratio
            inputs[LOG_RATIO] = log_ratio.detach()
        return logps, entropies, aux_loss

    def _form_log_ratio(self, logps: torch.Tensor, old_logps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        args = self.args
        if args.ratio_level == "token":
            return token_log_ratio(logps, old_logps, mask, args.pg_beta)
        return sequence_log_ratio(logps, old_logps, mask, args.pg_beta, args.pg_length_exponent)

    def _log_ratio_metrics(self, inputs: dict[str, Any]) -> None:
        mask, log_ratio, advantages = _loss_mask(inputs), inputs[LOG_RATIO], inputs["advantages"]
        if self.args.ratio_level == "token":
            exponents = surrogate_weights = torch.full_like(log_ratio, self.args.pg_beta)
        else:
            lengths = mask.sum(dim=1, keepdim=True).to(log_ratio)
            exponents = sequence_exponents(lengths, self.args.pg_beta, self.args.pg_length_exponent)
            surrogate_weights = exponents * lengths
        measured = measure_ratio(
            log_ratio,
            exponents,
            surrogate_weights,
            advantages if advantages.dim() == 2 else advantages.unsqueeze(1),
            mask,
            self.epsilon_low,
            self.epsilon_high,
            self.beta,
            lambda totals: self.accelerator.reduce(totals, reduction="sum"),
            self.accelerator.gather,
        )
        if self.beta == 0:
            measured.pop("kl_weight")
        metrics = self._metrics["train" if self.model.training else "eval"]
        for name, value in measured.items():
            metrics[f"pg_grpo/{name}"].append(value)


def _has_reference(model) -> bool:
    """Whether the parent can make a frozen copy of this model: from its path, or by switching its adapters off."""
    return isinstance(model, str) or is_peft_model(model) or bool(get_config_model_id(model.config))


def _loss_mask(inputs: dict[str, Any]) -> torch.Tensor:
    return inputs["completion_mask"] * inputs.get("tool_mask", 1)
