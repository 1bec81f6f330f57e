"""PG-DPO through the real trainer."""

import ast
import copy
import dataclasses
import inspect
import math
import textwrap

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig
from transformers import (
    BitsAndBytesConfig,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    TrainerCallback,
    TrainingArguments,
)
from trl import DPOConfig, DPOTrainer, TrlParser
from trl.trainer.dpo_trainer import DataCollatorForPreference

from dapo_ext.playground.policy import build_policy, build_tokenizer
from pg_grpo import PGDPOConfig, PGDPOTrainer
from pg_grpo.pair_dataset import trained_tokens
from tests.refusal_cases import PG_DPO
from tests.tiny import SMALL, logged, weights
from tests.tiny_pairs import DEFAULTS, dpo_trainer, pairs, pg_dpo_trainer


LORA = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


class Gradients(TrainerCallback):
    """Keeps the gradient of every optimizer step as one vector."""

    def __init__(self):
        self.steps = []

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        parts = [p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]
        self.steps.append(torch.cat(parts))


def gradients(trainer) -> list[torch.Tensor]:
    recorder = Gradients()
    trainer.add_callback(recorder)
    trainer.train()
    return recorder.steps


def far_reference() -> dict:
    """A reference other than the policy, so that the ratios of the very first step differ from 1."""
    return {"model": build_policy(0, **SMALL), "ref_model": build_policy(1, **SMALL)}


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


# ---- The loss ----


@pytest.mark.parametrize("changes", [{}, {"precompute_ref_log_probs": True}, {"pg_beta": 0.5}], ids=str)
def test_at_the_reference_the_gradient_is_that_of_trls_sigmoid(tmp_path, changes):
    changes = {**changes, "max_steps": 1, "max_grad_norm": 0.0}
    ours = gradients(pg_dpo_trainer(tmp_path, **changes))
    if "pg_beta" in changes:
        changes["beta"] = changes.pop("pg_beta")
    theirs = gradients(dpo_trainer(tmp_path, loss_type="sigmoid", **changes))
    assert relative_error(ours[0], theirs[0]) < 1e-4
    assert ours[0].norm() > 1e-2


def test_the_loss_is_that_of_independent_log_probabilities_and_loops(tmp_path):
    """Forward pass, mask, reference and mean, each redone without TRL's code."""
    changes = {"pg_beta": 0.4, "pg_length_exponent": 0.5, "epsilon": 0.1, "epsilon_high": 0.3, "delta": 1.2}
    for aggregation in ("sequence", "token"):
        # Without a prompt the first token of a completion has no log-probability
        dataset = Dataset.from_list([{"prompt": "", "chosen": "123", "rejected": "4"}, *pairs(5)])
        trainer = pg_dpo_trainer(tmp_path, dataset, far_reference(), pg_aggregation=aggregation, **changes)
        rows = list(trainer.train_dataset)
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
        total, divisor = 0.0, 0.0
        for row in rows:
            for side, advantage in (("chosen", 1), ("rejected", -1)):
                ids = torch.tensor([row["prompt_ids"] + row[f"{side}_ids"]])
                length = min(len(row[f"{side}_ids"]), ids.numel() - 1)
                logps = [
                    model(input_ids=ids).logits.double().log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[-length:]
                    for model in (trainer.model, trainer.ref_model)
                ]
                p = math.exp(0.4 * length**-0.5 * (logps[0].sum() - logps[1].sum()).item())
                p = min(p, 1.2) if advantage < 0 else p
                weight = length if aggregation == "token" else 1
                total -= weight * min(p * advantage, min(max(p, 0.9), 1.3) * advantage)
                divisor += weight
        assert loss.item() == pytest.approx(total / divisor, rel=1e-5)


def test_at_the_reference_every_ratio_is_one_whatever_precision_the_models_answer_in(tmp_path):
    """As with FSDP2, which casts what a wrapped model returns."""
    trainer = pg_dpo_trainer(tmp_path, max_steps=1)
    for model in (trainer.model, trainer.ref_model):
        model.register_forward_hook(lambda module, args, output: setattr(output, "log_probs", output.log_probs.half()))
    trainer.train()
    assert logged(trainer, "pg_dpo/chosen_ratio_mean") == [1.0]
    assert logged(trainer, "pg_dpo/rejected_ratio_mean") == [1.0]


@pytest.mark.parametrize("changes", [{"dynamic_pairs": True}, {"precompute_ref_log_probs": True}], ids=str)
def test_the_reference_of_a_batch_keeps_its_precision(tmp_path, changes, monkeypatch):
    """With DeepSpeed the host rounds every floating point input."""
    exact = pg_dpo_trainer(tmp_path, None, far_reference(), **changes)
    exact.train()
    rounded = pg_dpo_trainer(tmp_path, None, far_reference(), **changes)
    prepare = rounded._prepare_input

    def rounding(data):
        prepared = prepare(data)
        is_rounded = isinstance(prepared, torch.Tensor) and prepared.is_floating_point()
        return prepared.half() if is_rounded else prepared

    monkeypatch.setattr(rounded, "_prepare_input", rounding)
    rounded.train()
    assert torch.equal(weights(rounded), weights(exact))


@pytest.mark.parametrize("aggregation", ["sequence", "token"])
def test_a_step_split_into_micro_batches_is_the_whole_step(tmp_path, aggregation):
    """Also where the last micro-batch is smaller and the last window shorter: 7 pairs in steps of 4."""
    steps = []
    for batch_size, accumulation in ((4, 1), (2, 2), (1, 4)):
        trainer = pg_dpo_trainer(
            tmp_path,
            pairs(7),
            far_reference(),
            per_device_train_batch_size=batch_size,
            gradient_accumulation_steps=accumulation,
            pg_aggregation=aggregation,
            max_grad_norm=0.0,
            max_steps=2,
        )
        steps.append(gradients(trainer))
        steps[-1].append(torch.tensor(logged(trainer, "loss")))
    for split in steps[1:]:
        for part, whole in zip(split, steps[0], strict=True):
            torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-6)


def test_the_mean_is_over_tokens_or_over_completions(tmp_path):
    steps = [
        gradients(pg_dpo_trainer(tmp_path, None, far_reference(), pg_aggregation=aggregation, max_steps=1))
        for aggregation in ("sequence", "token")
    ]
    assert relative_error(steps[0][0], steps[1][0]) > 1e-2


def test_trls_losses_beside_it_add_up(tmp_path):
    def gradient(**changes):
        return gradients(pg_dpo_trainer(tmp_path, None, far_reference(), max_steps=1, max_grad_norm=0.0, **changes))[0]

    def sft_gradient():
        config = {"max_steps": 1, "max_grad_norm": 0.0, "loss_type": "sft"}
        return gradients(dpo_trainer(tmp_path, None, far_reference(), **config))[0]

    both = gradient(loss_type=["sft", "pg"], loss_weights=[0.3, 2.0])
    torch.testing.assert_close(both, 0.3 * sft_gradient() + 2.0 * gradient(), rtol=1e-4, atol=1e-6)


def test_every_trl_metric_stays_and_has_trls_value(tmp_path):
    ours = pg_dpo_trainer(tmp_path, None, far_reference(), max_steps=1)
    theirs = dpo_trainer(tmp_path, None, far_reference(), max_steps=1)
    ours.train(), theirs.train()
    own = {name: value for name, value in ours.state.log_history[0].items() if name.startswith("pg_dpo/")}
    rest = {name: value for name, value in ours.state.log_history[0].items() if name not in own}
    expected = theirs.state.log_history[0]
    assert rest.keys() == expected.keys()
    for name in rest.keys() - {"loss", "grad_norm"}:
        assert rest[name] == pytest.approx(expected[name], rel=1e-5), name
    assert own.keys() == {
        "pg_dpo/chosen_ratio_mean",
        "pg_dpo/rejected_ratio_mean",
        "pg_dpo/chosen_clipped_high",
        "pg_dpo/rejected_clipped_low",
        "pg_dpo/rejected_capped",
        "pg_dpo/exponent_mean",
    }


def test_clip_and_ratio_metrics(tmp_path):
    changes = {"pg_beta": 3.0, "epsilon": 0.3, "epsilon_high": 0.1, "delta": 1.5, "pg_length_exponent": 1.0}
    trainer = pg_dpo_trainer(tmp_path, None, far_reference(), **changes)
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(16)])
    trainer.model.train()
    trainer.compute_loss(trainer.model, inputs)
    metrics = {name.split("/")[1]: values[-1] for name, values in trainer._metrics["train"].items() if "pg_dpo" in name}
    lengths = inputs["completion_mask"].sum(dim=1).view(2, -1)
    reference = torch.stack(trainer.compute_ref_log_probs(trainer.ref_model, inputs))
    policy = torch.stack(trainer.compute_ref_log_probs(trainer.model, inputs))
    chosen, rejected = (3 * (policy - reference) / lengths).exp()
    assert metrics["chosen_ratio_mean"] == pytest.approx(chosen.mean().item(), rel=1e-5)
    assert metrics["rejected_ratio_mean"] == pytest.approx(rejected.mean().item(), rel=1e-5)
    shares = [(chosen > 1.1), (rejected < 0.7), (rejected > 1.5)]
    names = ["chosen_clipped_high", "rejected_clipped_low", "rejected_capped"]
    assert [metrics[name] for name in names] == [share.float().mean().item() for share in shares]
    assert all(0 < metrics[name] < 1 for name in names)
    assert metrics["exponent_mean"] == pytest.approx((3 / lengths).mean().item())


# ---- What the parent offers ----


def test_evaluation_and_compute_metrics(tmp_path):
    seen = []

    def compute_metrics(prediction):
        seen.append(prediction.predictions.shape)
        return {"seen": 1.0}

    rows = pairs(6, seed=5).to_list()
    rows[0]["rejected"] = rows[0]["chosen"]
    trainer = pg_dpo_trainer(
        tmp_path,
        None,
        {**far_reference(), "eval_dataset": Dataset.from_list(rows), "compute_metrics": compute_metrics},
        per_device_eval_batch_size=6,
    )
    assert len(trainer.eval_dataset) == 6  # evaluation is not filtered
    before = trainer.evaluate()
    inputs = trainer.data_collator(list(trainer.eval_dataset))
    trainer.train()
    after = trainer.evaluate()
    assert seen[0][0] == 12
    assert {"eval_loss", "eval_rewards/margins", "eval_pg_dpo/chosen_ratio_mean"} <= after.keys()
    trainer.model.eval()
    assert after["eval_loss"] == pytest.approx(trainer.compute_loss(trainer.model, inputs).item(), rel=1e-5)
    assert before["eval_loss"] != after["eval_loss"]


def test_precomputed_reference_log_probabilities_train_the_same(tmp_path):
    model, final = build_policy(0, **SMALL), []
    for precompute in (False, True):
        trainer = pg_dpo_trainer(
            tmp_path, None, {"model": copy.deepcopy(model)}, precompute_ref_log_probs=precompute, learning_rate=1e-2
        )
        trainer.train()
        assert (trainer.ref_model is None) == precompute
        final.append(weights(trainer))
    torch.testing.assert_close(final[0], final[1], rtol=1e-4, atol=1e-6)


def test_the_switched_off_adapter_is_the_reference(tmp_path):
    trainer = pg_dpo_trainer(tmp_path, None, {"peft_config": LORA}, learning_rate=5e-2, max_steps=6)
    base = {name: p.clone() for name, p in trainer.model.named_parameters() if "lora" not in name}
    trainer.train()
    assert trainer.ref_model is None
    ratios = logged(trainer, "pg_dpo/chosen_ratio_mean")
    assert ratios[0] == 1.0
    assert ratios[-1] != 1.0
    assert all(torch.equal(p, base[name]) for name, p in trainer.model.named_parameters() if "lora" not in name)
    assert trainer.evaluate(pairs())["eval_rewards/margins"] > 0


def test_four_bit(tmp_path):
    """nf4 needs layer inputs that are multiples of 64."""
    sizes = {**SMALL, "hidden_size": 64, "head_dim": 32, "intermediate_size": 128}
    build_policy(0, **sizes).save_pretrained(tmp_path / "base")
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    model = Qwen3ForCausalLM.from_pretrained(tmp_path / "base", quantization_config=quantization, device_map="cpu")
    assert model.is_loaded_in_4bit
    # TRL keeps adapters of quantized models in bfloat16, which this test widens for CPUs without bfloat16 products
    trainer = pg_dpo_trainer(tmp_path, None, {"model": model, "peft_config": LORA}, learning_rate=5e-2, max_steps=6)
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    trainer.train()
    assert logged(trainer, "pg_dpo/chosen_ratio_mean")[0] == pytest.approx(1.0)
    assert trainer.evaluate(pairs())["eval_rewards/margins"] > 0


def test_a_synchronized_reference_brings_the_ratio_back_to_one(tmp_path):
    changes = {"learning_rate": 1e-2, "max_steps": 3, "ref_model_sync_steps": 2, "ref_model_mixup_alpha": 1.0}
    moved = pg_dpo_trainer(tmp_path, sync_ref_model=True, **changes)
    moved.train()
    fixed = pg_dpo_trainer(tmp_path, **changes)
    fixed.train()
    assert logged(moved, "pg_dpo/chosen_ratio_mean")[2] == pytest.approx(1.0, abs=1e-6)
    assert logged(fixed, "pg_dpo/chosen_ratio_mean")[2] != pytest.approx(1.0, abs=1e-3)


def test_the_load_balancing_loss_of_a_mixture_of_experts_is_added(tmp_path):
    config = Qwen3MoeConfig(
        vocab_size=20,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=32,
        output_router_logits=True,
        **SMALL,
    )
    torch.manual_seed(0)
    model = Qwen3MoeForCausalLM(config)
    losses = {}
    for coefficient in (0.0, 0.5):
        trainer = pg_dpo_trainer(
            tmp_path, None, {"model": copy.deepcopy(model)}, router_aux_loss_coef=coefficient, max_steps=1
        )
        trainer.train()
        losses[coefficient] = logged(trainer, "loss")[0]
    assert losses[0.5] - losses[0.0] == pytest.approx(0.5 * logged(trainer, "aux_loss")[0], rel=1e-4)
    assert logged(trainer, "aux_loss")[0] > 0


def test_resuming_equals_not_stopping(tmp_path):
    changes = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2}
    whole = pg_dpo_trainer(tmp_path / "whole", **changes)
    whole.train()
    resumed = pg_dpo_trainer(tmp_path / "resumed", **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.state.global_step == 4
    torch.testing.assert_close(weights(resumed), weights(whole), rtol=0, atol=0)


# ---- Pairs ----


def test_equal_pairs_are_dropped_and_counted(tmp_path, caplog):
    rows = pairs(6).to_list()
    rows[1]["rejected"] = rows[1]["chosen"]
    rows[4]["rejected"] = rows[4]["chosen"] + "<eos>"
    trainer = pg_dpo_trainer(tmp_path, Dataset.from_list(rows))
    assert [row["prompt"] for row in trainer.train_dataset] == [rows[i]["prompt"] for i in (0, 2, 3, 5)]
    assert "2 of 6 training pairs were dropped" in caplog.text
    stream = IterableDataset.from_generator(lambda: iter(rows))
    streamed = pg_dpo_trainer(tmp_path, stream)
    assert len(list(streamed.train_dataset)) == 4


def test_equal_pairs_are_looked_for_by_as_many_processes_as_trl_uses(tmp_path, monkeypatch):
    processes, given = {}, Dataset.filter

    def watched(self, *args, num_proc=None, desc=None, **kwargs):
        processes[desc] = num_proc
        return given(self, *args, desc=desc, **kwargs)

    monkeypatch.setattr(Dataset, "filter", watched)
    pg_dpo_trainer(tmp_path, dataset_num_proc=2)
    assert set(processes.values()) == {2}
    assert "Dropping equal pairs from train dataset" in processes


def test_pairs_that_truncation_makes_equal_are_dropped(tmp_path):
    rows = [
        {"prompt": "12=", "chosen": "345", "rejected": "346"},
        {"prompt": "12=", "chosen": "445", "rejected": "346"},
    ]
    trainer = pg_dpo_trainer(tmp_path, Dataset.from_list(rows), max_length=5)
    assert trainer.train_dataset["chosen"] == ["445<eos>"]
    with pytest.raises(ValueError, match=r"`train_dataset='1 pairs'`.*not one has a chosen that differs"):
        pg_dpo_trainer(tmp_path, Dataset.from_list(rows[:1]), max_length=5)


@pytest.mark.parametrize(
    ("prompt", "completion", "mode", "expected"),
    [
        ([1, 2], [3, 4, 5], "keep_start", ([1, 2, 3, 4], 2)),
        ([1, 2], [3, 4, 5], "keep_end", ([2, 3, 4, 5], 3)),
        ([], [3, 4, 5, 6, 7], "keep_start", ([3, 4, 5, 6], 3)),
        ([1], [3, 4, 5, 6], "keep_end", ([3, 4, 5, 6], 3)),
        ([1, 2, 3, 4], [5], "keep_start", ([1, 2, 3, 4], 0)),
        ([], [5], "keep_start", ([5], 0)),
    ],
)
def test_tokens_that_are_trained_on_are_those_the_collator_keeps(prompt, completion, mode, expected):
    assert trained_tokens(prompt, completion, 4, mode) == expected
    collator = DataCollatorForPreference(pad_token_id=0, max_length=4, truncation_mode=mode)
    batch = collator([{"prompt_ids": prompt, "chosen_ids": completion, "rejected_ids": completion}])
    assert (batch["input_ids"][0].tolist(), batch["completion_mask"][0, 1:].sum()) == expected


def test_an_empty_completion_is_an_error_that_names_the_pair(tmp_path):
    """Text always has its EOS token, so the empty side comes from a tokenizer that adds none."""
    trainer = pg_dpo_trainer(tmp_path, Dataset.from_list([{"prompt": "1=", "chosen": "2", "rejected": ""}]))
    assert trainer.train_dataset[0]["rejected_ids"] == [trainer._tokenizer.eos_token_id]
    tokenizer = build_tokenizer()
    tokenizer.eos_token = ""
    rows = [*pairs(2).to_list(), {"prompt": "1=", "chosen": "2", "rejected": ""}]
    model = build_policy(0, **SMALL)
    with pytest.raises(ValueError, match="Pair 2 of the training dataset has an empty `rejected` completion"):
        PGDPOTrainer(
            model=model,
            ref_model=copy.deepcopy(model),
            args=PGDPOConfig(str(tmp_path), **DEFAULTS),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )


# ---- The configuration ----


def test_beta_mirrors_pg_beta(tmp_path):
    assert PGDPOConfig(str(tmp_path), **DEFAULTS, pg_beta=0.3).beta == 0.3
    assert PGDPOConfig(str(tmp_path), **DEFAULTS, pg_beta=0.3, beta=0.3).beta == 0.3


def test_the_command_line_reaches_every_field(tmp_path):
    arguments = ["--output_dir", str(tmp_path), "--use_cpu", "true", "--bf16", "false"]
    arguments += ["--pg_beta", "0.3", "--epsilon_high", "0.28", "--delta", "4", "--loss_type", "pg", "sft"]
    arguments += ["--pg_aggregation", "token", "--pg_length_exponent", "0.5"]
    (config,) = TrlParser(PGDPOConfig).parse_args_and_config(arguments, fail_with_unknown_args=True)
    assert (config.beta, config.epsilon_high, config.delta, config.loss_type) == (0.3, 0.28, 4.0, ["pg", "sft"])
    assert config.pair_objective.aggregation == "token"
    TrlParser(PGDPOConfig).format_help()


# Every field that DPOConfig adds to TrainingArguments or changes the default of, with what becomes of it.
REFUSED = {
    "ld_alpha",
    "f_divergence_type",
    "f_alpha_divergence_coef",
    "label_smoothing",
    "use_weighting",
    "discopop_tau",
}
REDEFINED = {"loss_type", "loss_weights", "beta"}
LEFT_TO_THE_PARENT = {
    "model_init_kwargs",
    "trust_remote_code",
    "router_aux_loss_coef",
    "disable_dropout",
    "dataset_num_proc",
    "max_length",
    "truncation_mode",
    "padding_free",
    "pad_to_multiple_of",
    "precompute_ref_log_probs",
    "precompute_ref_batch_size",
    "activation_offloading",
    "sync_ref_model",
    "ref_model_mixup_alpha",
    "ref_model_sync_steps",
    "pad_token",
}


def test_every_field_of_the_parents_config_is_accounted_for():
    added = {f.name for f in dataclasses.fields(DPOConfig)} - {f.name for f in dataclasses.fields(TrainingArguments)}
    assert added == REFUSED | REDEFINED | LEFT_TO_THE_PARENT
    assert {field for _, field in PG_DPO} >= REFUSED


def test_options_of_the_losses_beside_it_are_accepted(tmp_path):
    smoothed = PGDPOConfig(str(tmp_path), **DEFAULTS, loss_type=["pg", "robust"], label_smoothing=0.1)
    assert smoothed.label_smoothing == 0.1
    tempered = PGDPOConfig(str(tmp_path), **DEFAULTS, loss_type=["pg", "discopop"], discopop_tau=0.1)
    assert tempered.discopop_tau == 0.1


def test_whatever_the_parent_reads_is_read_here(tmp_path):
    """Fields of the arguments, all of them, that are read in construction, training and evaluation."""

    def fields_read(trainer_class, config_class):
        read = set()

        class Recording(config_class):
            def __getattribute__(self, name):
                read.add(name)
                return super().__getattribute__(name)

        model = build_policy(0, **SMALL)
        args = Recording(str(tmp_path), **DEFAULTS)
        read.clear()
        trainer = trainer_class(
            model=model,
            ref_model=copy.deepcopy(model),
            args=args,
            train_dataset=pairs(),
            eval_dataset=pairs(4),
            processing_class=build_tokenizer(),
        )
        trainer.train()
        trainer.evaluate()
        return read & {f.name for f in dataclasses.fields(config_class)}

    theirs, ours = fields_read(DPOTrainer, DPOConfig), fields_read(PGDPOTrainer, PGDPOConfig)
    assert {"loss_type", "ld_alpha", "per_device_train_batch_size"} <= theirs
    assert theirs <= ours


def test_the_parents_loss_reads_what_it_read_when_this_was_written():
    """
    Between log-probabilities and loss the parent's method consults these attributes and no others.

    With no loss type left its sum over losses is empty, so that whatever only that sum reads must be refused.
    """
    tree = ast.parse(textwrap.dedent(inspect.getsource(DPOTrainer._compute_loss)))
    read = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self"
    }
    shaping_the_loss = {
        "beta",  # mirrors pg_beta
        "loss_types",  # what stands beside the offline PG loss
        "loss_weights",
        "ld_alpha",  # refused, like the next four
        "f_divergence_type",
        "f_alpha_divergence_coef",
        "label_smoothing",
        "use_weighting",
        "aux_loss_enabled",  # mixture of experts: added by the parent
        "router_aux_loss_coef",
        "precompute_ref_logps",
    }
    bookkeeping = {"model", "ref_model", "accelerator", "args", "_metrics", "_total_train_tokens", "_tp_size"}
    assert read == shaping_the_loss | bookkeeping
    of_args = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "self.args"
    }
    assert of_args == {"gradient_checkpointing_kwargs", "discopop_tau"}
