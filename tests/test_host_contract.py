"""What the trainer relies on in TRL and transformers. When one of these fails, CONTRIBUTING says how to go on."""

import ast
import dataclasses
import inspect
import sys
import textwrap

import pytest
from transformers import Trainer, TrainingArguments
from trl import GRPOConfig, GRPOTrainer
from trl.rewards import get_soft_overlong_punishment
from trl.trainer import grpo_trainer

from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.refusals.objective_checks import CLIPPED_LOSSES, ROW_MEAN_LOSSES
from dapo_ext.reporting.host_metrics import COMPLETION_METRICS
from dapo_ext.sampling.old_logps import KeepsOldLogps
from tests.refusal_cases import DAPO
from tests.test_parity import OBJECTIVE_OPTIONS
from tests.tiny import DEFAULTS, _build, distinct, prompts


# Host methods that are overridden or called, with the parameters they are called with
SIGNATURES = {
    "_generate": ["self", "prompts"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_prepare_inputs": ["self", "generation_batch"],
    "_compute_loss": ["self", "model", "inputs"],
    "_save_checkpoint": ["self", "model", "trial"],
    "_load_optimizer_and_scheduler": ["self", "checkpoint"],
    "_remove_unused_columns": ["self", "dataset", "description"],
    "_get_output_dir": ["self", "trial"],
    "log": ["self", "logs", "start_time"],
}
# Texts in the host's source that our arithmetic answers to
RELIED_UPON = {
    "_generate": [
        "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images",
        "ids[-1] not in eos_and_pad",
        "eos_and_pad = [*self.eos_token_ids, self._tokenizer.pad_token_id]",
    ],
    "_generate_and_score_completions": [
        "rewards_per_func = self._calculate_rewards(inputs, prompts, completions, completion_ids_list)",
        "unscorable_mask = torch.isnan(rewards_per_func).all(dim=1)",
        "advantages = torch.nan_to_num(advantages, nan=0.0)",
        'output["tool_mask"] = tool_mask',
        "self._pending_extra_logs.clear()",
        "generate_every = self.args.steps_per_generation * self.num_iterations",
        "if self.args.gradient_accumulation_steps % generate_every != 0 or ( "
        "self.use_vllm and self.vllm_importance_sampling_correction ):",
        'if old_per_token_logps is not None: output["old_per_token_logps"] = old_per_token_logps',
    ],
    "_prepare_inputs": [
        "self._step % generate_every == 0 or self._buffered_inputs is None",
        "inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]",
    ],
    "_compute_loss": [
        'mask = completion_mask if "tool_mask" not in inputs else completion_mask * inputs["tool_mask"]',
        'normalizer = inputs["num_items_in_batch"].clamp(min=1.0) / self.accelerator.num_processes',
        "normalizer = normalizer * self.current_gradient_accumulation_steps / self.args.steps_per_generation",
        "loss = ((per_token_loss * mask).sum(-1) / mask.sum(-1).clamp(min=1.0)).mean()",
        "loss = (per_token_loss * mask).sum() / (per_token_loss.size(0) * self.max_completion_length)",
    ],
}
# Fields that GRPOConfig adds to TrainingArguments and that are the host's alone: no method that reads them is replaced
# (see `test_every_override_calls_the_host`), and no value of theirs conflicts with what is added here.
HOST_FIELDS = {
    "model loading": {
        "model_init_kwargs",
        "trust_remote_code",
        "router_aux_loss_coef",
        "cast_lm_head_to_fp32",
        "ds3_gather_for_generation",
    },
    "templates and generation backends": {
        "chat_template_kwargs",
        "cache_implementation",
        "use_transformers_continuous_batching",
        "transformers_continuous_batching_config",
        "use_transformers_paged",
        "max_tool_calling_iterations",
    },
    "evaluation and logging": {
        "num_generations_eval",
        "log_completions",
        "log_multimodal",
        "log_unique_prompts",
        "log_completions_hub_repo",
        "num_completions_to_print",
    },
    "parameters of objectives and controllers tested by parity": {
        "sapo_temperature_neg",
        "sapo_temperature_pos",
        "vespo_k_pos",
        "vespo_lambda_pos",
        "vespo_k_neg",
        "vespo_lambda_neg",
        "entropy_coef_min",
        "entropy_coef_max",
        "entropy_coef_delta",
        "ref_model_mixup_alpha",
    },
    "layout, resolved by the host before we read it": {"generation_batch_size"},
}


def source(method) -> ast.FunctionDef:
    return ast.parse(textwrap.dedent(inspect.getsource(method))).body[0]


def flat(method) -> str:
    return " ".join(inspect.getsource(method).split())


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures(name):
    assert list(inspect.signature(getattr(GRPOTrainer, name)).parameters) == SIGNATURES[name]


def test_the_training_loop_is_left_through_run_epoch():
    assert {"model", "trial"} <= set(inspect.signature(Trainer._run_epoch).parameters)
    assert "self._run_epoch( model=model," in flat(Trainer._inner_training_loop)
    assert "if self.control.should_training_stop: break" in flat(Trainer._inner_training_loop)
    order = [flat(Trainer._run_epoch).index(text) for text in ("on_pre_optimizer_step", "self.optimizer.step()")]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("name", "text"),
    [(name, text) for name, texts in RELIED_UPON.items() for text in texts],
    ids=lambda value: value[:50],
)
def test_relied_upon_source(name, text):
    assert text in flat(getattr(GRPOTrainer, name))


def test_the_policy_is_scored_before_anything_else_and_the_vllm_correction_is_formed_from_it():
    text = flat(GRPOTrainer._generate_and_score_completions)
    order = [
        "old_per_token_logps, _, _ = self._get_per_token_logps_and_entropies( self.model,",
        "per_token_logps_diff = (old_per_token_logps - sampling_per_token_logps) * mask",
        "ref_per_token_logps, _, _ = self._get_per_token_logps_and_entropies(",
    ]
    positions = [text.index(part) for part in order]
    assert positions == sorted(positions)
    assert text.index("self._get_per_token_logps_and_entropies(") > positions[0]
    assert "return logps, entropies, aux_loss" in flat(GRPOTrainer._get_per_token_logps_and_entropies)


def test_metric_names():
    generate = flat(GRPOTrainer._generate)
    assert all(f'self._metrics[mode]["{name}"].append' in generate for name in COMPLETION_METRICS)
    score = flat(GRPOTrainer._generate_and_score_completions)
    for name in ("reward", "reward_std", "frac_reward_zero_std"):
        assert f'self._metrics[mode]["{name}"].append' in score


def test_loss_types():
    """Every loss type of the host is known to the denominators: token means, row means, or bnpo's own mean."""
    token_means = {"dapo", "cispo", "vespo"}
    names = {
        node.value
        for node in ast.walk(source(GRPOTrainer._compute_loss))
        if isinstance(node, ast.Constant) and node.value in {*token_means, *ROW_MEAN_LOSSES, *CLIPPED_LOSSES, "bnpo"}
    }
    assert names == token_means | set(ROW_MEAN_LOSSES) | {"bnpo"}
    documented = GRPOConfig.__dataclass_fields__["loss_type"].metadata["help"].split("Supported values are ")[1]
    assert {word.strip("',. ") for word in documented.split(". ")[0].replace("and ", "").split(",")} == names


def test_the_punishments_name():
    assert get_soft_overlong_punishment(8, 2).__name__ == "soft_overlong_punishment_reward"


OVERRIDES = {**vars(KeepsOldLogps), **vars(DAPOTrainer)}


def overridden() -> list[tuple[type, str]]:
    """Methods of the host that the trainer, or one of the classes it is put together from, overrides."""
    ours = [base for base in DAPOTrainer.__mro__ if base.__module__.startswith("dapo_ext.")]
    return [
        (base, name)
        for base in ours
        for name, member in vars(base).items()
        if inspect.isfunction(member) and hasattr(GRPOTrainer, name) and name != "__init__"
    ]


@pytest.mark.parametrize(("base", "name"), overridden(), ids=lambda value: getattr(value, "__name__", value))
def test_every_override_calls_the_host(base, name):
    """Nothing of the host is copied or replaced, so whatever option a host method reads is still read."""
    calls = [
        node.func.attr
        for node in ast.walk(source(vars(base)[name]))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
        and getattr(node.func.value.func, "id", "") == "super"
    ]
    assert name in calls


def test_every_field_of_the_host_is_accounted_for():
    """A field that TRL adds fails here until someone has decided whether it is honoured or refused."""
    added = {f.name for f in dataclasses.fields(GRPOConfig)} - {f.name for f in dataclasses.fields(TrainingArguments)}
    by_parity = {name for options in OBJECTIVE_OPTIONS for name in options} | set(DEFAULTS)
    refused = {name for changes, _ in DAPO for name in changes}
    host = set().union(*HOST_FIELDS.values())
    redefined = {"mask_truncated_completions"}  # tests/test_overlong.py
    vllm = {name for name in added if name.startswith("vllm_")} | {"use_vllm"}  # generation stays the host's
    assert added - by_parity - refused - redefined - host - vllm == set()
    assert host - added == set()


def recorded_reads(trainer_class, config_class, tmp_path, **changes) -> set[str]:
    """Fields that the host's trainer module reads from the configuration while it is built, trains and evaluates."""
    names = {field.name for field in dataclasses.fields(GRPOConfig)}
    reads = set()

    class Recording(config_class):
        def __getattribute__(self, name):
            if name in names and sys._getframe(1).f_globals["__name__"] == grpo_trainer.__name__:
                reads.add(name)
            return super().__getattribute__(name)

    settings = {**DEFAULTS, "per_device_eval_batch_size": 8, **changes}
    config = Recording(str(tmp_path), **settings)
    trainer = _build(trainer_class, config, distinct, None, {"eval_dataset": prompts(4)})
    trainer.train()
    trainer.evaluate()
    return reads


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 0.1, "delta": 3.0, "top_entropy_quantile": 0.5, "off_policy_mask_threshold": 1.0},
        {"log_completions": True, "num_completions_to_print": 0, "use_adaptive_entropy": True},
        {"loss_type": "sapo"},
        {"loss_type": "vespo"},
    ],
    ids=str,
)
def test_every_field_the_host_reads_is_still_read(tmp_path, changes):
    theirs = recorded_reads(GRPOTrainer, GRPOConfig, tmp_path / "trl", **changes)
    ours = recorded_reads(DAPOTrainer, DAPOConfig, tmp_path / "dapo", **changes)
    assert len(theirs) > 40
    assert theirs - ours == set()
