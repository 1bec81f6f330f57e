import dataclasses

import pytest
from trl import GRPOConfig, TrlParser

from dapo_ext import DAPOConfig
from tests.tiny import dapo_config


NEW_FIELDS = {
    "dynamic_sampling": True,
    "filter_rewards": None,
    "filter_tolerance": 1e-6,
    "generation_budget": 10.0,
    "on_exhausted": "shrink",
    "carry_surplus": True,
    "max_staleness": 1,
    "prompt_selection": "uniform",
    "pass_rate_column": None,
    "selection_cost": "groups",
    "soft_overlong_cache": 0.2,
    "soft_overlong_weight": 1.0,
    "token_weighting": "uniform",
    "token_weight_normalization": "batch",
}
PAPER = {
    "loss_type": "dapo",
    "epsilon": 0.2,
    "epsilon_high": 0.28,
    "beta": 0.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "mask_truncated_completions": False,
    "num_iterations": 1,
    "importance_sampling_level": "token",
    "scale_rewards": "group",
}

# (changed fields, the field the error names)
REFUSED = [
    ({"filter_rewards": []}, "filter_rewards"),
    ({"filter_tolerance": -1e-6}, "filter_tolerance"),
    ({"filter_tolerance": float("nan")}, "filter_tolerance"),
    ({"generation_budget": 0.5}, "generation_budget"),
    ({"generation_budget": float("inf")}, "generation_budget"),
    ({"on_exhausted": "fill"}, "on_exhausted"),
    ({"max_staleness": 0}, "max_staleness"),
    ({"max_staleness": 1.5}, "max_staleness"),
    ({"prompt_selection": "greedy"}, "prompt_selection"),
    ({"prompt_selection": "predictive", "dynamic_sampling": False}, "prompt_selection"),
    ({"prompt_selection": "predictive", "shuffle_dataset": False}, "shuffle_dataset"),
    ({"pass_rate_column": "rate"}, "pass_rate_column"),
    ({"soft_overlong_cache": -1}, "soft_overlong_cache"),
    ({"soft_overlong_cache": 2.5}, "soft_overlong_cache"),
    ({"soft_overlong_cache": 9}, "soft_overlong_cache"),  # max_completion_length is 8
    ({"soft_overlong_cache": 0.01}, "soft_overlong_cache"),  # rounds to no token at all
    ({"soft_overlong_weight": -1.0}, "soft_overlong_weight"),
    ({"multi_objective_aggregation": "normalize_then_sum"}, "multi_objective_aggregation"),
    ({"generation_kwargs": {"max_new_tokens": 4}}, "generation_kwargs"),
    ({"steps_per_generation": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}, None),
    ({"delta": 1.1}, "delta"),
    ({"loss_type": "cispo"}, "epsilon_high"),
    ({"loss_type": "bnpo"}, "loss_type"),
    ({"loss_type": "grpo", "entropy_coef": 0.1}, "entropy_coef"),
    ({"loss_type": "dr_grpo", "use_adaptive_entropy": True}, "entropy_coef"),
]


def test_the_defaults_are_the_papers_setting():
    fields = {field.name: field.default for field in dataclasses.fields(DAPOConfig)}
    assert {name: fields[name] for name in NEW_FIELDS} == NEW_FIELDS
    assert {name: fields[name] for name in PAPER} == PAPER


def test_the_new_fields_are_these_and_no_more():
    added = {field.name for field in dataclasses.fields(DAPOConfig)} - {f.name for f in dataclasses.fields(GRPOConfig)}
    assert added == set(NEW_FIELDS)


@pytest.mark.parametrize(("changes", "field"), REFUSED, ids=lambda value: str(value)[:60])
def test_what_cannot_be_honoured_is_refused_with_value_reason_and_remedy(tmp_path, changes, field):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is matched below
        dapo_config(tmp_path, **changes)
    field = field or next(iter(changes))
    assert f"`{field}=" in str(error.value)
    assert "is refused" in str(error.value)
    assert "Remedy:" in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"soft_overlong_cache": 0, "multi_objective_aggregation": "normalize_then_sum"},
        {"soft_overlong_cache": 8},
        {"delta": 10.0},
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"loss_type": "bnpo", "on_exhausted": "raise"},
        {"loss_type": "grpo", "entropy_coef": 0.1, "dynamic_sampling": False},
        {"generation_kwargs": {"max_new_tokens": 4}, "soft_overlong_cache": 0},
        {"max_staleness": 2},
        {"prompt_selection": "predictive", "pass_rate_column": "rate"},
        {"shuffle_dataset": False},
    ],
    ids=str,
)
def test_the_remedies_are_accepted(tmp_path, changes):
    config = dapo_config(tmp_path, **changes)
    assert {name: getattr(config, name) for name in changes} == changes


@pytest.mark.parametrize(
    ("cache", "limit", "tokens"), [(0.2, 20480, 4096), (0.2, 8, 2), (4, 8, 4), (1, 8, 1), (0, 8, 0), (0.99, 100, 99)]
)
def test_the_cache_is_a_fraction_below_one_and_tokens_from_one_on(tmp_path, cache, limit, tokens):
    config = dapo_config(tmp_path, soft_overlong_cache=cache, max_completion_length=limit)
    assert config.soft_overlong_tokens == tokens


def test_every_new_field_works_on_a_command_line(tmp_path):
    (config,) = TrlParser(DAPOConfig).parse_args_and_config(
        [
            *("--output_dir", str(tmp_path), "--bf16", "False", "--use_cpu", "True"),
            *("--dynamic_sampling", "True", "--filter_rewards", "accuracy", "format"),
            *("--filter_tolerance", "1e-4", "--generation_budget", "3", "--on_exhausted", "raise"),
            *("--carry_surplus", "False", "--max_staleness", "3"),
            *("--prompt_selection", "predictive", "--pass_rate_column", "rate", "--selection_cost", "tokens"),
            *("--soft_overlong_cache", "16", "--soft_overlong_weight", "0.5", "--epsilon_high", "0.3"),
            *("--token_weighting", "entropy", "--token_weight_normalization", "completion", "--loss_type", "grpo"),
        ],
        fail_with_unknown_args=True,
    )
    assert {name: getattr(config, name) for name in [*NEW_FIELDS, "epsilon_high"]} == {
        "dynamic_sampling": True,
        "filter_rewards": ["accuracy", "format"],
        "filter_tolerance": 1e-4,
        "generation_budget": 3.0,
        "on_exhausted": "raise",
        "carry_surplus": False,
        "max_staleness": 3,
        "prompt_selection": "predictive",
        "pass_rate_column": "rate",
        "selection_cost": "tokens",
        "soft_overlong_cache": 16.0,
        "soft_overlong_weight": 0.5,
        "token_weighting": "entropy",
        "token_weight_normalization": "completion",
        "epsilon_high": 0.3,
    }


def test_help_renders(capsys):
    with pytest.raises(SystemExit):
        TrlParser(DAPOConfig).parse_args_and_config(["--help"])
    assert "--generation_budget" in capsys.readouterr().out
