"""The configuration that each trainer takes, and the one it makes where none is given."""

import dataclasses

import pytest
from trl import DPOConfig, GRPOConfig

from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground.policy import build_tokenizer
from dapo_ext.refusals import Refusal
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer
from tests.tiny import odd_length, policy, prompts
from tests.tiny_pairs import pairs


GROUPS = {"reward_funcs": odd_length, "train_dataset": prompts()}
PAIRS = {"train_dataset": pairs()}
TRAINERS = [
    pytest.param(DAPOTrainer, DAPOConfig, GROUPS, "DAPO", id="dapo"),
    pytest.param(PGGRPOTrainer, PGGRPOConfig, GROUPS, "PG-GRPO", id="pg-grpo"),
    pytest.param(PGDPOTrainer, PGDPOConfig, PAIRS, "PG-DPO", id="pg-dpo"),
]


@pytest.mark.parametrize(("trainer", "config", "data", "method"), TRAINERS)
def test_without_a_configuration_the_defaults_are_used(tmp_path, monkeypatch, trainer, config, data, method):
    monkeypatch.chdir(tmp_path)
    on_cpu = dataclasses.make_dataclass("OnCPU", [("use_cpu", bool, True), ("bf16", bool, False)], bases=(config,))
    monkeypatch.setattr(f"{trainer.__module__}.{config.__name__}", on_cpu)
    made = trainer(policy(), processing_class=build_tokenizer(), **data).args
    assert made.output_dir.endswith(f"-{method}")
    plain = config(str(tmp_path), use_cpu=True, bf16=False)
    own = {field.name for field in dataclasses.fields(config)} - {"output_dir", "logging_dir", "run_name"}
    assert {name: getattr(made, name) for name in own} == {name: getattr(plain, name) for name in own}


@pytest.mark.parametrize(("trainer", "config", "data", "method"), TRAINERS)
def test_trls_configuration_is_refused(tmp_path, trainer, config, data, method):
    trls = DPOConfig if issubclass(config, DPOConfig) else GRPOConfig
    message = rf"`args='{trls.__name__}'` is refused: .*\. Remedy: pass a (dapo_ext|pg_grpo)\.{config.__name__}, or"
    with pytest.raises(Refusal, match=message):
        trainer(policy(), args=trls(str(tmp_path), use_cpu=True, bf16=False), **data)


def test_fields_that_a_trainer_would_not_read_are_refused(tmp_path):
    config = PGGRPOConfig(str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(Refusal, match="DAPOTrainer would not read the fields that it has for PGGRPOTrainer"):
        DAPOTrainer(policy(), args=config, **GROUPS)


class Derived(DAPOTrainer):
    pass


@pytest.mark.parametrize("trainer", [DAPOTrainer, Derived])
def test_a_users_own_configuration_may_have_further_fields(tmp_path, trainer):
    derived_config = dataclasses.make_dataclass("DerivedConfig", [("knob", float, 1.0)], bases=(DAPOConfig,))
    config = derived_config(str(tmp_path), use_cpu=True, bf16=False)
    assert trainer(policy(), args=config, processing_class=build_tokenizer(), **GROUPS).args.knob == 1.0


def test_dapos_configuration_is_refused_by_pg_grpo(tmp_path):
    with pytest.raises(Refusal, match=r"`args='DAPOConfig'` .* pg_grpo\.PGGRPOConfig, or"):
        PGGRPOTrainer(policy(), args=DAPOConfig(str(tmp_path), use_cpu=True, bf16=False), **GROUPS)
