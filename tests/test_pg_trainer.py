"""PGGRPOTrainer as its users meet it: configuration, refusals, real short runs, metrics, the direction of DPO."""

import dataclasses
import logging
import math

import pytest
import torch
from trl import GRPOConfig, TrlParser

from dapo_ext import DAPOConfig
from dapo_ext.playground.policy import EOS_TOKEN_ID, build_policy, build_tokenizer
from pg_grpo import PGGRPOConfig, PGGRPOTrainer
from tests.pg_tiny import pg_config, pg_trainer
from tests.tiny import NEUTRAL, SMALL, dapo_trainer, logged, odd_length, policy, prompts, rare_first_token, weights


NEW_FIELDS = {"pg_beta": 0.1, "pg_length_exponent": 0.0, "ratio_level": "sequence"}
CHANGED_DEFAULTS = {
    "epsilon_high": None,
    "scale_rewards": "none",
    "loss_type": "grpo",
    "beta": 0.001,
    "use_bias_correction_kl": False,
    "importance_sampling_level": None,
    "dynamic_sampling": False,
    "soft_overlong_cache": 0.0,
}
HONOURED = [
    {},
    {"importance_sampling_level": "sequence"},
    {"ratio_level": "token", "importance_sampling_level": "token"},
    {"loss_type": "bnpo"},
    {"entropy_coef": 0.1},
    {"delta": 1.3},
    {"loss_type": "dapo", "token_weighting": "entropy"},
    {"dynamic_sampling": True, "soft_overlong_cache": 0.2, "epsilon_high": 0.28, "loss_type": "dapo", "beta": 0.0},
]


# ---- Configuration ----


def test_the_defaults_are_the_method_as_proposed():
    ours = {field.name: field.default for field in dataclasses.fields(PGGRPOConfig)}
    dapos = {field.name: field.default for field in dataclasses.fields(DAPOConfig)}
    assert {name: ours[name] for name in ours.keys() - dapos.keys()} == NEW_FIELDS
    assert {name: ours[name] for name in dapos if ours[name] != dapos[name]} == CHANGED_DEFAULTS
    assert (ours["epsilon"], ours["num_iterations"]) == (0.2, 1)


@pytest.mark.parametrize("changes", HONOURED, ids=str)
def test_what_can_be_honoured_is_accepted(tmp_path, changes):
    config = pg_config(tmp_path, **changes)
    assert config.importance_sampling_level == config.ratio_level


def test_a_finished_configuration_can_be_changed_and_written_out(tmp_path):
    config = pg_config(tmp_path)
    changed = dataclasses.replace(config, pg_beta=0.5, generation_batch_size=None)
    assert (changed.pg_beta, changed.importance_sampling_level) == (0.5, "sequence")
    assert config.to_dict()["ratio_level"] == "sequence"


def test_every_new_field_works_on_a_command_line(tmp_path):
    (config,) = TrlParser(PGGRPOConfig).parse_args_and_config(
        [
            *("--output_dir", str(tmp_path), "--bf16", "False", "--use_cpu", "True"),
            *("--pg_beta", "0.5", "--pg_length_exponent", "1", "--ratio_level", "sequence"),
        ],
        fail_with_unknown_args=True,
    )
    assert (config.pg_beta, config.pg_length_exponent, config.ratio_level) == (0.5, 1.0, "sequence")


def test_help_renders(capsys):
    with pytest.raises(SystemExit):
        TrlParser(PGGRPOConfig).parse_args_and_config(["--help"])
    assert "--pg_length_exponent" in capsys.readouterr().out


@pytest.mark.parametrize("config_class", [GRPOConfig, DAPOConfig])
def test_another_configuration_class_is_refused(tmp_path, config_class):
    config = config_class(str(tmp_path), use_cpu=True, bf16=False)
    with pytest.raises(ValueError, match=rf"`args='{config_class.__name__}'` is refused"):
        PGGRPOTrainer(policy(), odd_length, config, train_dataset=prompts(), processing_class=build_tokenizer())


def test_a_model_without_a_path_has_no_reference_for_the_kl_term(tmp_path):
    in_memory = {"model": build_policy(0, **SMALL)}
    with pytest.raises(ValueError, match=r"`beta=0\.001` is refused: .*path"):
        pg_trainer(tmp_path, trainer_args=in_memory)
    pg_trainer(tmp_path, trainer_args=in_memory, beta=0.0)


# ---- The notice ----


@pytest.mark.parametrize(
    ("layout", "inert"),
    [
        ({"steps_per_generation": 2, "gradient_accumulation_steps": 2}, True),
        ({"steps_per_generation": 4, "gradient_accumulation_steps": 2}, False),
        ({"steps_per_generation": 2, "gradient_accumulation_steps": 2, "num_iterations": 2}, False),
    ],
    ids=str,
)
def test_an_inert_clip_is_said_once_at_the_start(tmp_path, caplog, layout, inert):
    with caplog.at_level(logging.WARNING, logger="pg_grpo"):
        trainer = pg_trainer(tmp_path, **layout, max_steps=4)
        trainer.train()
    notices = [record.message for record in caplog.records if "the clip is inert" in record.message]
    assert len(notices) == inert
    if inert:
        assert "steps_per_generation" in notices[0]
        assert "num_iterations" in notices[0]
    ratios = logged(trainer, "pg_grpo/ratio_min") + logged(trainer, "pg_grpo/ratio_max")
    assert all(abs(ratio - 1) < 1e-5 for ratio in ratios) == inert


# ---- Real runs ----


def test_a_run_with_dynamic_sampling_and_dapos_other_switches(tmp_path):
    trainer = pg_trainer(
        tmp_path,
        rare_first_token,
        dynamic_sampling=True,
        soft_overlong_cache=0.25,
        epsilon_high=0.28,
        learning_rate=3e-2,
        max_steps=8,
        eval_strategy="steps",
        eval_steps=8,
        per_device_eval_batch_size=4,
        trainer_args={"eval_dataset": prompts(8)},
    )
    before = weights(trainer).clone()
    trainer.train()
    assert trainer.state.global_step == 8
    assert trainer.sampler.ledger.informative_fraction == 1.0
    assert trainer.sampler.ledger.generated_groups > trainer.sampler.ledger.trained_groups
    after = weights(trainer)
    assert after.isfinite().all()
    assert (after - before).abs().max() > 1e-3
    lowest, highest = logged(trainer, "pg_grpo/ratio_min"), logged(trainer, "pg_grpo/ratio_max")
    # Two updates per generation: the first sees the policy that generated, the second another one
    assert lowest[::2] == pytest.approx([1] * 4, abs=1e-5)
    assert all(low < 0.999 or high > 1.001 for low, high in zip(lowest[1::2], highest[1::2], strict=True))
    assert logged(trainer, "pg_grpo/exponent_mean") == pytest.approx([0.1] * 8)
    assert logged(trainer, "pg_grpo/plain_log_ratio_low") == pytest.approx([math.log(0.8) / 0.1] * 8)
    assert logged(trainer, "pg_grpo/plain_log_ratio_high") == pytest.approx([math.log(1.28) / 0.1] * 8)
    assert all(0.001 / (0.1 * 8) <= weight <= 0.001 / 0.1 for weight in logged(trainer, "pg_grpo/kl_weight"))
    assert len(logged(trainer, "kl")) == 8
    assert len(logged(trainer, "eval_pg_grpo/ratio_mean")) == 1


@pytest.mark.parametrize(
    ("pg", "dapo"),
    [
        ({"pg_length_exponent": 1.0}, {"importance_sampling_level": "sequence", "loss_type": "grpo"}),
        ({"ratio_level": "token", "loss_type": "dapo"}, {}),
    ],
    ids=["gspo", "dapo"],
)
def test_a_run_at_neutral_settings_is_the_parents(tmp_path, pg, dapo):
    """Eight steps in float32, off-policy: the same weights but for rounding."""
    shared = {
        "per_device_train_batch_size": 4, "steps_per_generation": 4, "gradient_accumulation_steps": 1, "max_steps": 8,
        "scale_rewards": "group", "epsilon_high": 0.28, "beta": 0.0, **NEUTRAL,
    }  # fmt: skip
    ours = pg_trainer(tmp_path, **shared, pg_beta=1.0, **pg)
    ours.train()
    theirs = dapo_trainer(tmp_path, **shared, **dapo)
    start = weights(theirs).clone()
    theirs.train()
    moved = (weights(theirs) - start).abs().max()
    assert (weights(ours) - weights(theirs)).abs().max() < 1e-2 * moved
    assert logged(ours, "loss") == pytest.approx(logged(theirs, "loss"), abs=1e-5)
    assert logged(ours, "kl") == []
    assert logged(ours, "pg_grpo/kl_weight") == []


def test_peft_trains_with_the_adapters_switched_off_as_reference(tmp_path):
    from peft import LoraConfig

    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = pg_trainer(
        tmp_path, beta=0.1, learning_rate=1e-2, trainer_args={"model": build_policy(0, **SMALL), "peft_config": lora}
    )
    trainer.train()
    assert trainer.ref_model is None
    assert logged(trainer, "kl")[0] == pytest.approx(0, abs=1e-6)
    assert logged(trainer, "kl")[-1] > 1e-5


def test_the_model_card_claims_no_paper(tmp_path):
    pg_trainer(tmp_path).create_model_card("a-policy")
    card = (tmp_path / "README.md").read_text()
    assert "trained with PG-GRPO" in card
    assert "huggingface.co/papers" not in card.split("## Training procedure")[1].split("###")[0]


# ---- A group of two is a preference pair ----


def parameter_gradient(model) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten().double() for parameter in model.parameters()])


def sequence_logp(model, batch, row: int) -> torch.Tensor:
    """log pi(y|x) by a forward pass over one unpadded sequence."""
    prompt = batch["prompt_ids"][row][batch["prompt_mask"][row].bool()]
    completion = batch["completion_ids"][row][batch["completion_mask"][row].bool()]
    logits = model(input_ids=torch.cat([prompt, completion]).unsqueeze(0)).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(dim=-1).gather(1, completion.unsqueeze(1)).sum()


@pytest.mark.parametrize(
    ("fields", "same_direction"),
    [
        ({"ratio_level": "token", "loss_type": "dapo"}, True),  # token sum
        ({}, True),  # sequence ratio, alpha 0
        ({"ratio_level": "token"}, False),  # the mean within each completion: only for equal lengths
        ({"pg_length_exponent": 1.0}, False),
    ],
    ids=str,
)
def test_a_group_of_two_has_the_direction_of_dpos_pair_gradient(tmp_path, monkeypatch, fields, same_direction):
    def prefer_the_longer(completion_ids, **kwargs):
        return [float(len(ids) == 7) for ids in completion_ids]

    trainer = pg_trainer(
        tmp_path, prefer_the_longer, beta=0.0, per_device_train_batch_size=2, num_generations=2,
        steps_per_generation=1, gradient_accumulation_steps=1, **fields,
    )  # fmt: skip
    pair = [[4, 5, 6, EOS_TOKEN_ID], [7, 8, 9, 10, 11, 12, EOS_TOKEN_ID]]
    monkeypatch.setattr(trainer, "_generate_single_turn", lambda *args: (pair, None))
    model = trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    batch = trainer._prepare_inputs([{"prompt": "1+1=", "answer": "2"}] * 2)
    assert sorted(batch["completion_mask"].sum(dim=1).tolist()) == [4, 7]
    chosen = int(batch["advantages"].argmax())

    trainer.compute_loss(model, batch).backward()
    ours = parameter_gradient(model)
    model.zero_grad()
    differences = [sequence_logp(model, batch, row) for row in (0, 1)]
    differences = [logp - logp.detach() for logp in differences]  # at pi = pi_ref
    margin = differences[chosen] - differences[1 - chosen]
    (-torch.nn.functional.logsigmoid(0.1 * margin)).backward()
    cosine = torch.nn.functional.cosine_similarity(ours, parameter_gradient(model), dim=0).item()
    if same_direction:
        assert cosine == pytest.approx(1, abs=1e-6)
    else:
        assert cosine < 0.999
