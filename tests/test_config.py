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


def test_the_defaults_are_the_papers_setting():
    fields = {field.name: field.default for field in dataclasses.fields(DAPOConfig)}
    assert {name: fields[name] for name in NEW_FIELDS} == NEW_FIELDS
    assert {name: fields[name] for name in PAPER} == PAPER


def test_the_new_fields_are_these_and_no_more():
    added = {field.name for field in dataclasses.fields(DAPOConfig)} - {f.name for f in dataclasses.fields(GRPOConfig)}
    assert added == set(NEW_FIELDS)


@pytest.mark.parametrize(
    "changes",
    [
        {"soft_overlong_cache": 0, "multi_objective_aggregation": "normalize_then_sum"},
        {"soft_overlong_cache": 8},
        {"soft_overlong_cache": 0, "max_completion_length": None},
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
            *("--max_staleness", "3"),
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
        "carry_surplus": True,
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


def test_switches_can_be_turned_off_on_a_command_line(tmp_path):
    arguments = ["--output_dir", str(tmp_path), "--bf16", "False", "--use_cpu", "True", "--carry_surplus", "False"]
    (config,) = TrlParser(DAPOConfig).parse_args_and_config(arguments, fail_with_unknown_args=True)
    assert config.carry_surplus is False


def test_help_renders(capsys):
    with pytest.raises(SystemExit):
        TrlParser(DAPOConfig).parse_args_and_config(["--help"])
    assert "--generation_budget" in capsys.readouterr().out
