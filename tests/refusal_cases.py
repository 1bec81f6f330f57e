"""
Every configuration and combination that is refused, as the tests and docs/refusals.md have it.

`python -m tests.refusal_cases` writes docs/refusals.md anew.
"""

import math
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.pg_tiny import pg_config
from tests.tiny import dapo_config, dapo_trainer
from tests.tiny_pairs import pg_dpo_config


DOCUMENT = Path(__file__).parent.parent / "docs" / "refusals.md"
MESSAGE = re.compile(r"`(?P<field>\w+)=(?P<value>.*)` is refused: (?P<reason>.*)\. Remedy: (?P<remedy>.*)\.", re.DOTALL)
Cases = list[tuple[dict[str, Any], str]]

ENTROPY = {"token_weighting": "entropy"}
COMPLETION = {"token_weight_normalization": "completion"}

# (changed fields, the field the error names); max_completion_length is 8
WEIGHTING: Cases = [
    ({"token_weighting": "attention"}, "token_weighting"),
    ({"token_weight_normalization": "group"}, "token_weight_normalization"),
    ({**ENTROPY, **COMPLETION}, "loss_type"),
    ({**ENTROPY, "loss_type": "grpo"}, "loss_type"),
    ({**ENTROPY, "loss_type": "sapo"}, "loss_type"),
    ({**ENTROPY, "loss_type": "bnpo", "on_exhausted": "raise"}, "loss_type"),
    ({**ENTROPY, "loss_type": "luspo"}, "loss_type"),
    ({**ENTROPY, "loss_type": "dr_grpo", **COMPLETION}, "loss_type"),
    (
        {**ENTROPY, "loss_type": "grpo", "importance_sampling_level": "sequence", **COMPLETION},
        "token_weight_normalization",
    ),
]
DAPO: Cases = [
    ({"loss_type": "dr_grpo", "max_completion_length": None, "soft_overlong_cache": 0}, "max_completion_length"),
    ({"dynamic_sampling": "False"}, "dynamic_sampling"),
    ({"filter_rewards": []}, "filter_rewards"),
    ({"filter_rewards": "accuracy"}, "filter_rewards"),
    ({"filter_rewards": ["accuracy", "accuracy"]}, "filter_rewards"),
    ({"filter_rewards": ["accuracy"], "dynamic_sampling": False}, "filter_rewards"),
    ({"filter_tolerance": -1e-6}, "filter_tolerance"),
    ({"filter_tolerance": math.nan}, "filter_tolerance"),
    ({"filter_tolerance": 0.1, "dynamic_sampling": False}, "filter_tolerance"),
    ({"generation_budget": 0.5}, "generation_budget"),
    ({"generation_budget": math.inf}, "generation_budget"),
    ({"generation_budget": 1e30}, "generation_budget"),
    ({"generation_budget": 4.0, "dynamic_sampling": False}, "generation_budget"),
    ({"on_exhausted": "fill"}, "on_exhausted"),
    ({"on_exhausted": "raise", "dynamic_sampling": False}, "on_exhausted"),
    ({"max_staleness": 0}, "max_staleness"),
    ({"max_staleness": 1.5}, "max_staleness"),
    ({"max_staleness": 2, "carry_surplus": False}, "max_staleness"),
    ({"max_staleness": 2, "dynamic_sampling": False}, "max_staleness"),
    ({"prompt_selection": "greedy"}, "prompt_selection"),
    ({"prompt_selection": "predictive", "dynamic_sampling": False}, "prompt_selection"),
    ({"prompt_selection": "predictive", "shuffle_dataset": False}, "shuffle_dataset"),
    ({"pass_rate_column": "rate"}, "pass_rate_column"),
    ({"prompt_selection": "predictive", "selection_cost": "seconds"}, "selection_cost"),
    ({"selection_cost": "tokens"}, "selection_cost"),
    ({"soft_overlong_cache": -1}, "soft_overlong_cache"),
    ({"soft_overlong_cache": 2.5}, "soft_overlong_cache"),
    ({"soft_overlong_cache": 9}, "soft_overlong_cache"),
    ({"soft_overlong_cache": 0.01}, "soft_overlong_cache"),  # rounds to no token at all
    ({"max_completion_length": None}, "max_completion_length"),
    ({"soft_overlong_weight": -1.0}, "soft_overlong_weight"),
    ({"soft_overlong_weight": 2.0, "soft_overlong_cache": 0}, "soft_overlong_weight"),
    ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation"),
    ({"generation_kwargs": {"max_new_tokens": 4}}, "generation_kwargs"),
    (
        {"steps_per_generation": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
        "steps_per_generation",
    ),
    ({"epsilon": math.nan}, "epsilon"),
    ({"epsilon_high": -0.1}, "epsilon_high"),
    ({"delta": "10"}, "delta"),
    ({"delta": 1.1}, "delta"),
    ({"loss_type": "ppo"}, "loss_type"),
    ({"loss_type": "cispo"}, "epsilon_high"),
    ({"loss_type": "bnpo"}, "loss_type"),
    ({"loss_type": "bnpo", "on_exhausted": "raise", "mask_truncated_completions": True}, "loss_type"),
    ({"importance_sampling_level": "sequence", "top_entropy_quantile": 0.5}, "top_entropy_quantile"),
    ({"loss_type": "grpo", "entropy_coef": 0.1}, "entropy_coef"),
    ({"loss_type": "dr_grpo", "use_adaptive_entropy": True}, "entropy_coef"),
    *WEIGHTING,
]
PG_GRPO: Cases = [
    ({"pg_beta": 0.0}, "pg_beta"),
    ({"pg_beta": -0.1}, "pg_beta"),
    ({"pg_beta": math.inf}, "pg_beta"),
    ({"pg_beta": math.nan}, "pg_beta"),
    ({"pg_beta": 1e9}, "pg_beta"),
    ({"pg_length_exponent": -0.1}, "pg_length_exponent"),
    ({"pg_length_exponent": 1.1}, "pg_length_exponent"),
    ({"pg_length_exponent": math.nan}, "pg_length_exponent"),
    ({"ratio_level": "word"}, "ratio_level"),
    ({"ratio_level": "token", "pg_length_exponent": 0.5}, "pg_length_exponent"),
    ({"importance_sampling_level": "token"}, "importance_sampling_level"),
    ({"ratio_level": "token", "importance_sampling_level": "sequence"}, "importance_sampling_level"),
    ({"beta": -0.1}, "beta"),
    ({"loss_type": "cispo"}, "loss_type"),
    ({"loss_type": "sapo"}, "loss_type"),
    ({"loss_type": "vespo", "ratio_level": "token"}, "loss_type"),
    ({"loss_type": "luspo"}, "loss_type"),
    ({"use_bias_correction_kl": True}, "use_bias_correction_kl"),
    ({"off_policy_mask_threshold": 0.5}, "off_policy_mask_threshold"),
    # DAPO's own refusals read the defaults of this class
    ({"delta": 1.1}, "delta"),
    ({"steps_per_generation": 3}, "steps_per_generation"),
    ({"loss_type": "bnpo", "dynamic_sampling": True}, "loss_type"),
    ({"top_entropy_quantile": 0.2}, "top_entropy_quantile"),
    ({"entropy_coef": 0.1, "dynamic_sampling": True}, "entropy_coef"),
    # Tokens of a completion share one ratio
    ({**ENTROPY}, "loss_type"),
    ({**ENTROPY, **COMPLETION}, "token_weight_normalization"),
]
PG_DPO: Cases = [
    ({"pg_beta": 0.0}, "pg_beta"),
    ({"pg_beta": -1.0}, "pg_beta"),
    ({"pg_beta": math.nan}, "pg_beta"),
    ({"pg_length_exponent": 1.1}, "pg_length_exponent"),
    ({"pg_length_exponent": -0.1}, "pg_length_exponent"),
    ({"beta": 0.2}, "beta"),
    ({"epsilon": 0.0}, "epsilon"),
    ({"epsilon": None}, "epsilon"),
    ({"epsilon_high": -0.2}, "epsilon_high"),
    ({"delta": 1.0}, "delta"),
    ({"pg_aggregation": "sample"}, "pg_aggregation"),
    ({"loss_type": "sigmoid"}, "loss_type"),
    ({"loss_type": ["pg", "pg"]}, "loss_type"),
    ({"loss_type": ["pg", "orpo"]}, "loss_type"),
    ({"loss_type": ["pg", "sft"], "loss_weights": [0.0, 1.0]}, "loss_weights"),
    ({"ld_alpha": 0.5}, "ld_alpha"),
    ({"f_divergence_type": "js_divergence"}, "f_divergence_type"),
    ({"f_alpha_divergence_coef": 0.3}, "f_alpha_divergence_coef"),
    ({"label_smoothing": 0.1}, "label_smoothing"),
    ({"use_weighting": True}, "use_weighting"),
    ({"discopop_tau": 0.1}, "discopop_tau"),
    ({"dynamic_pairs": "no"}, "dynamic_pairs"),
    ({"pair_budget": 5.0}, "pair_budget"),
    ({"dynamic_pairs": True, "pair_budget": 0.5}, "pair_budget"),
    ({"dynamic_pairs": True, "loss_type": ["pg", "sft"]}, "loss_type"),
    ({"dynamic_pairs": True, "sync_ref_model": True}, "sync_ref_model"),
    ({"dynamic_pairs": True, "train_sampling_strategy": "batch_rebalance"}, "train_sampling_strategy"),
    ({"dynamic_pairs": True, "accelerator_config": {"even_batches": False}}, "accelerator_config"),
]
# What the trainer refuses because of its other arguments, here the token_weight_fn that is not there
TRAINER: Cases = [
    ({**COMPLETION}, "token_weight_normalization"),
    ({**COMPLETION, "loss_type": "grpo"}, "token_weight_normalization"),
]
CONFIGURATIONS: dict[str, tuple[Callable, Cases]] = {
    "DAPOConfig": (dapo_config, DAPO),
    "PGGRPOConfig": (pg_config, PG_GRPO),
    "PGDPOConfig": (pg_dpo_config, PG_DPO),
    "DAPOTrainer": (dapo_trainer, TRAINER),
}


def parse(error: ValueError) -> dict[str, str]:
    """Field, value, reason and remedy of a refusal."""
    match = MESSAGE.fullmatch(str(error))
    if match is None:
        raise AssertionError(f"no refusal: {error}")
    return match.groupdict()


def refuse(build: Callable, changes: dict[str, Any]) -> dict[str, str]:
    """What the refusal of a configuration says."""
    try:
        build(Path(tempfile.gettempdir()) / "refused", **changes)
    except ValueError as error:
        return parse(error)
    raise AssertionError(f"{changes} was not refused")


def table(rows: list[tuple[str, dict[str, str]]]) -> str:
    lines = ["| written | refused | because | instead |", "|---|---|---|---|"]
    for written, said in rows:
        cells = [f"`{written}`", f"`{said['field']}`", said["reason"], said["remedy"]]
        lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines)


def document() -> str:
    """The text of docs/refusals.md."""
    parts = [
        "# What is refused",
        "Written by `python -m tests.refusal_cases` from the cases that the tests run; a test fails when it is stale.\n"
        "Each is a `ValueError` from the constructor: ``` `field=value` is refused: reason. Remedy: remedy. ```\n"
        "Values of another type (a string for a number, `None`, `True` for 1, NaN, infinity) are refused likewise for\n"
        "every field that is not TRL's. In the tables `max_completion_length` is 8.",
    ]
    for name, (build, cases) in CONFIGURATIONS.items():
        rows = [
            (", ".join(f"{key}={value!r}" for key, value in changes.items()), refuse(build, changes))
            for changes, _ in cases
        ]
        parts += [f"## {name}", table(rows)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
