"""4-bit with LoRA, LoRA, and full training, on all three trainers: train, checkpoint, resume, merge, reload."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM
from trl import get_peft_config, get_quantization_config

from dapo_ext import DAPOConfig, DAPOTrainer, precision
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer
from pg_grpo.commands.options import ModelArguments
from tests import tiny, tiny_pairs
from tests.cli import odd_sum, save_policy
from tests.tiny import logged


# One generation per optimizer step, so that a run resumes to the bit; a KL term, so that there is a reference
GROUPS = {**tiny.DEFAULTS, "steps_per_generation": 1, "beta": 0.1, "learning_rate": 1e-2}
PAIRS = {**tiny_pairs.DEFAULTS, "learning_rate": 1e-2}
TRAINERS = {
    "dapo": (DAPOTrainer, DAPOConfig, GROUPS),
    "pggrpo": (PGGRPOTrainer, PGGRPOConfig, GROUPS),
    "pgdpo": (PGDPOTrainer, PGDPOConfig, PAIRS),
}
# What the command line makes of `--load_in_4bit --use_peft`, and of `--use_peft`
OPTIONS = {
    "qlora": ModelArguments(load_in_4bit=True, use_peft=True, lora_r=4, lora_dropout=0.0),
    "lora": ModelArguments(use_peft=True, lora_r=4, lora_dropout=0.0),
    "full": ModelArguments(),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    return str(save_policy(tmp_path_factory.mktemp("policy")))


def build(name: str, output_dir: Path, model: Any, kind: str = "qlora", **changes):
    trainer_class, config_class, defaults = TRAINERS[name]
    pairwise = name == "pgdpo"
    loaded = not isinstance(model, str)
    return trainer_class(
        model=model,
        args=config_class(str(output_dir), **{**defaults, **changes}),
        train_dataset=tiny_pairs.pairs() if pairwise else tiny.prompts(),
        quantization_config=None if loaded else get_quantization_config(OPTIONS[kind]),
        peft_config=get_peft_config(OPTIONS[kind]),
        **({} if pairwise else {"reward_funcs": odd_sum}),
        **({"processing_class": tiny.build_tokenizer()} if loaded else {}),
    )


def trained(trainer) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in trainer.model.named_parameters() if each.requires_grad}


def frozen(trainer) -> dict[str, torch.Tensor]:
    return {name: each.detach().clone() for name, each in trainer.model.named_parameters() if not each.requires_grad}


def assert_the_reference_is_the_model_without_its_adapter(trainer, name: str) -> None:
    """Nothing else holds a copy: distance 0 at first, more once the adapter has moved."""
    assert trainer.ref_model is None
    if name == "pgdpo":
        values = [ratio - 1 for ratio in logged(trainer, "pg_dpo/chosen_ratio_mean")]
    else:
        values = logged(trainer, "kl")
    assert values[0] == pytest.approx(0, abs=1e-6)
    assert abs(values[-1]) > 1e-5


@torch.no_grad()
def logits(model) -> torch.Tensor:
    return model.eval()(input_ids=torch.arange(4, 16).view(2, 6)).logits.float()


@pytest.mark.parametrize("kind", ["qlora", "lora"])
@pytest.mark.parametrize("name", TRAINERS)
def test_an_adapter_from_a_path_trains_resumes_merges_and_reloads(tmp_path, path, name, kind):
    trainer = build(name, tmp_path / "run", path, kind, max_steps=4, save_strategy="steps", save_steps=2)
    before, base = trained(trainer), frozen(trainer)
    assert all("lora" in each for each in before)
    if kind == "qlora":
        weight = trainer.model.get_base_model().model.layers[0].self_attn.q_proj.weight
        assert (weight.quant_state.quant_type, weight.quant_state.nested) == ("nf4", True)
    trainer.train()
    after = trained(trainer)
    assert any(not torch.equal(after[each], before[each]) for each in after)
    assert all(torch.equal(each, base[key]) for key, each in frozen(trainer).items())
    assert_the_reference_is_the_model_without_its_adapter(trainer, name)

    resumed = build(name, tmp_path / "again", path, kind, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-2"))
    for key, each in trained(resumed).items():
        torch.testing.assert_close(each, after[key], rtol=0, atol=0)

    # The adapter is merged into the weights it was trained on: the dequantized ones
    trainer.save_model(str(tmp_path / "adapter"))
    quantization = get_quantization_config(OPTIONS[kind])
    whole = AutoModelForCausalLM.from_pretrained(path, quantization_config=quantization)
    if quantization is not None:
        whole = whole.dequantize()
    plain, expected = logits(whole), logits(trainer.model)
    merged = PeftModel.from_pretrained(whole, tmp_path / "adapter").merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    reloaded = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"))
    # TRL keeps the adapters of a quantized model in bfloat16, whose products are exact to two digits
    error = (reloaded - expected).abs().max()
    assert error < (5e-2 if kind == "qlora" else 1e-4)
    assert (expected - plain).abs().max() > 5 * error


@pytest.mark.parametrize("name", TRAINERS)
def test_a_loaded_model_in_four_bits_trains_as_one_from_a_path(tmp_path, path, name):
    from_path = build(name, tmp_path / "path", path, max_steps=2)
    from_path.train()
    loaded = AutoModelForCausalLM.from_pretrained(path, quantization_config=get_quantization_config(OPTIONS["qlora"]))
    trainer = build(name, tmp_path / "loaded", loaded, max_steps=2)
    trainer.train()
    assert_the_reference_is_the_model_without_its_adapter(trainer, name)
    for key, each in trained(trainer).items():
        torch.testing.assert_close(each, trained(from_path)[key], rtol=0, atol=0)


@pytest.mark.parametrize("name", TRAINERS)
def test_full_training_from_a_path_reloads(tmp_path, path, name):
    trainer = build(name, tmp_path, path, "full", max_steps=1)
    trainer.train()
    trainer.save_model(str(tmp_path / "model"))
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    torch.testing.assert_close(logits(reloaded), logits(trainer.model), rtol=0, atol=0)
    assert not torch.equal(logits(reloaded), logits(AutoModelForCausalLM.from_pretrained(path)))


@pytest.mark.parametrize("name", ["dapo", "pgdpo"])
def test_adapters_are_widened_where_bfloat16_would_kill_the_process(tmp_path, path, name, monkeypatch):
    """TRL narrows the adapters of quantized models whatever `bf16` says."""
    assert {each.dtype for each in trained(build(name, tmp_path, path)).values()} == {torch.bfloat16}
    monkeypatch.setattr(precision, "cpu_bf16_obstacle", lambda: "a trial product was ended by signal 4")
    trainer = build(name, tmp_path, path, max_steps=2)
    assert {each.dtype for each in trained(trainer).values()} == {torch.float32}
    trainer.train()
    assert_the_reference_is_the_model_without_its_adapter(trainer, name)


@pytest.mark.parametrize("name", ["dapo", "pgdpo"])
def test_adapters_are_widened_under_fp16(tmp_path, path, name, monkeypatch):
    """The host's own part in fp16 needs a GPU."""
    monkeypatch.setattr(precision, "cpu_bf16_obstacle", lambda: None)
    trainer_class, config_class, defaults = TRAINERS[name]
    config = config_class(str(tmp_path), **defaults)
    monkeypatch.setitem(TRAINERS, name, (trainer_class, lambda *args, **fields: config, defaults))
    assert {each.dtype for each in trained(build(name, tmp_path, path)).values()} == {torch.bfloat16}
    config.fp16 = True
    assert {each.dtype for each in trained(build(name, tmp_path, path)).values()} == {torch.float32}


@pytest.mark.parametrize("options", [{}, {"dynamic_pairs": True}])
def test_gradients_in_four_bits_are_the_same_after_an_evaluation(tmp_path, path, options):
    """bitsandbytes would repack the weights, for a kernel without a gradient; scoring pairs ahead is one, too."""
    runs = [build("pgdpo", tmp_path / str(evaluates), path, max_steps=2, **options) for evaluates in (False, True)]
    runs[1].evaluate(tiny_pairs.pairs(4))
    for trainer in runs:
        trainer.train()
    norms, norms_after = (logged(trainer, "grad_norm") for trainer in runs)
    assert norms_after == norms
    # In float32 the gradient is the same up to the rounding of the weights
    full = build("pgdpo", tmp_path / "full", path, "lora", max_steps=1, **options)
    full.train()
    assert norms[0] == pytest.approx(logged(full, "grad_norm")[0], rel=0.3)


def test_four_bit_weights_that_were_repacked_for_inference_are_refused(tmp_path, path):
    model = AutoModelForCausalLM.from_pretrained(path, quantization_config=get_quantization_config(OPTIONS["qlora"]))
    if not model.model.layers[0].self_attn.q_proj.support_avx512bf16_for_cpu:
        pytest.skip("bitsandbytes repacks on CPUs with bfloat16 instructions alone")
    logits(model)
    with pytest.raises(ValueError, match=r"repacked the 4-bit weights of .*q_proj.* Remedy: load the model again"):
        build("dapo", tmp_path, model)


def test_an_adapter_is_on_the_model_card(tmp_path, path):
    lora = LoraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM")
    quantization = get_quantization_config(OPTIONS["qlora"])
    model = AutoModelForCausalLM.from_pretrained(path, quantization_config=quantization)
    trainer = PGDPOTrainer(
        model=model,
        args=PGDPOConfig(str(tmp_path), **PAIRS),
        train_dataset=tiny_pairs.pairs(),
        processing_class=tiny.build_tokenizer(),
        peft_config=lora,
    )
    trainer.create_model_card()
    card = (tmp_path / "README.md").read_text()
    assert "adapter: LORA, r=8" in card
    assert "quantization: 4-bit" in card
