"""
Every method of TRL and transformers that a trainer here overrides, and every attribute and field it reads.

The signatures, texts and names below were those of TRL 1.16 and transformers 5.23. A test that fails says what changed;
CONTRIBUTING says how to go on.
"""

import ast
import dataclasses
import importlib
import inspect
import textwrap

import pytest
from transformers import Trainer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

from dapo_ext import DAPOTrainer
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer
from pg_grpo.pair_loss_checks import TRL_LOSSES
from tests.tiny import trl_trainer
from tests.tiny_pairs import dpo_trainer


# Parameters of each overridden method, `self` left out
SIGNATURES = {
    "_calculate_rewards": "inputs, prompts, completions, completion_ids_list",
    "_compute_loss": {
        DAPOTrainer: "model, inputs",
        PGGRPOTrainer: "model, inputs",
        PGDPOTrainer: "model, inputs, return_outputs",
    },
    "_generate": "prompts",
    "_generate_and_score_completions": "inputs",
    "_generate_single_turn": "prompt_ids, images, multimodal_fields, num_generations, has_tool_images",
    "_get_per_token_logps_and_entropies": None,  # passed on whole, with *args and **kwargs
    "_inner_training_loop": None,
    "_load_from_checkpoint": "resume_from_checkpoint, model",
    "_load_optimizer_and_scheduler": "checkpoint",
    "_prepare_inputs": {
        DAPOTrainer: "generation_batch",
        PGGRPOTrainer: "generation_batch",
        PGDPOTrainer: "inputs",
    },
    "_push_from_checkpoint": "checkpoint_folder",
    "_run_epoch": None,
    "_save": None,
    "_save_checkpoint": "model, trial",
    "_tokenize_prompts": "prompts",
    "compute_ref_log_probs": "model, inputs",
    "create_model_card": "model_name, dataset_name, tags",
    "get_batch_samples": "epoch_iterator, num_batches, device",
    "get_train_dataloader": "",
    "train": "resume_from_checkpoint, trial, ignore_keys_for_eval",
}
# Texts of the host that an override answers to
RELIED_UPON = {
    (DPOTrainer, "_compute_loss"): [
        "outputs = model(**model_kwargs, labels=labels, fused_lm_head=True)",
        "per_token_logps = outputs.log_probs[:, -seq_len:]",
        'if self.precompute_ref_logps: ref_chosen_logps, ref_rejected_logps = inputs["ref_chosen_logps"], '
        'inputs["ref_rejected_logps"]',
        "for loss_type, loss_weight in zip(self.loss_types, self.loss_weights, strict=True):",
        "loss += per_sequence_loss.mean() * loss_weight",
        "return (loss, outputs) if return_outputs else loss",
    ],
    (DPOTrainer, "compute_ref_log_probs"): [
        "ref_per_token_logps = model(**model_kwargs, labels=labels, fused_lm_head=True).log_probs",
        "return ref_logps.chunk(2, dim=0)",
    ],
    (GRPOTrainer, "_calculate_rewards"): [
        "zip(self.reward_funcs, self.reward_processing_classes, self.reward_func_names, strict=True)",
        "elif is_async_callable(reward_func):",
        "prompts=prompts, completions=completions, completion_ids=completion_ids_list, **reward_kwargs",
        "rewards_per_func = gather(rewards_per_func)",
    ],
    (GRPOTrainer, "_generate_single_turn"): ["return completion_ids, logprobs"],
    (GRPOTrainer, "_tokenize_prompts"): ["return prompt_ids, images, multimodal_fields"],
    (GRPOTrainer, "_get_train_sampler"): ["batch_size=self.args.generation_batch_size // self.num_generations"],
    (Trainer, "_run_epoch"): ["self.get_batch_samples(epoch_iterator, num_batches, self.args.device)"],
}
# Files whose `self` or `trainer` is a trainer, and the host it stands on
MODULES = {
    "dapo_ext.trainer": GRPOTrainer,
    "dapo_ext.loss.token_weighted_trainer": GRPOTrainer,
    "dapo_ext.sampling.old_logps": GRPOTrainer,
    "dapo_ext.rewards.checked_rewards": GRPOTrainer,
    "dapo_ext.refusals.prompt_lengths": GRPOTrainer,
    "dapo_ext.refusals.trainer_checks": GRPOTrainer,
    "dapo_ext.sampling.sampler_setup": GRPOTrainer,
    "dapo_ext.sampling.reward_columns": GRPOTrainer,
    "dapo_ext.sampling.early_end": GRPOTrainer,
    "dapo_ext.resume.saving_errors": GRPOTrainer,
    "dapo_ext.resume.exact_resume": GRPOTrainer,
    "dapo_ext.resume.generation_resume": GRPOTrainer,
    "dapo_ext.resume.whole_first": GRPOTrainer,
    "dapo_ext.quantized_policy": GRPOTrainer,
    "dapo_ext.reporting.model_card": GRPOTrainer,
    "pg_grpo.trainer": GRPOTrainer,
    "pg_grpo.dpo_trainer": DPOTrainer,
}
# Of the host, set while it trains
LOOP_STATE = {"_buffered_inputs", "_tr_loss", "current_gradient_accumulation_steps"}


def host_of(trainer: type) -> type:
    return DPOTrainer if issubclass(trainer, DPOTrainer) else GRPOTrainer


def overrides() -> list[tuple[type, type, str]]:
    """(trainer, the class of ours in its line, the method of the host it overrides)."""
    found = []
    for trainer in (DAPOTrainer, PGGRPOTrainer, PGDPOTrainer):
        ours = [base for base in trainer.__mro__ if base.__module__.startswith(("dapo_ext.", "pg_grpo."))]
        found += [
            (trainer, base, name)
            for base in ours
            for name, member in vars(base).items()
            if inspect.isfunction(member) and hasattr(host_of(trainer), name) and not name.startswith("__")
        ]
    return found


def parameters(method) -> str:
    return ", ".join(list(inspect.signature(method).parameters)[1:])


@pytest.mark.parametrize(("trainer", "base", "name"), overrides(), ids=lambda value: getattr(value, "__name__", value))
def test_an_overridden_method_has_the_signature_it_had_and_is_called(trainer, base, name):
    assert name in SIGNATURES, f"{base.__name__} overrides {name}: add its signature to SIGNATURES"
    expected = SIGNATURES[name]
    expected = expected[trainer] if isinstance(expected, dict) else expected
    now = parameters(getattr(host_of(trainer), name))
    assert expected is None or now == expected, f"{host_of(trainer).__name__}.{name} took ({expected}), now ({now})"
    tree = ast.parse(textwrap.dedent(inspect.getsource(vars(base)[name])))
    calls = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
        and getattr(node.func.value.func, "id", "") == "super"
    }
    assert name in calls, f"{base.__name__}.{name} replaces the host's method, with every option it reads"


@pytest.mark.parametrize(
    ("host", "name", "text"),
    [(host, name, text) for (host, name), texts in RELIED_UPON.items() for text in texts],
    ids=lambda value: getattr(value, "__name__", value[:40] if isinstance(value, str) else value),
)
def test_relied_upon_source(host, name, text):
    source = " ".join(inspect.getsource(getattr(host, name)).split())
    assert text in source, f"{host.__name__}.{name} no longer holds {text!r}"


def read_names(module: str, owners: tuple[str, ...]) -> set[str]:
    """Names read as `owner.name` in a module, where `owner` may be a dotted name itself."""
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) in owners
    }


def own_names() -> set[str]:
    """What our classes define, and what they set on themselves."""
    names = set()
    for module in MODULES:
        tree = ast.parse(inspect.getsource(importlib.import_module(module)))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
            if isinstance(node, ast.AnnAssign | ast.Assign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> dict[type, Trainer]:
    folder = tmp_path_factory.mktemp("hosts")
    return {GRPOTrainer: trl_trainer(folder / "grpo"), DPOTrainer: dpo_trainer(folder / "dpo")}


@pytest.mark.parametrize("module", MODULES)
def test_every_attribute_that_is_read_is_still_the_hosts(hosts, module):
    read = read_names(module, ("self", "trainer", "self._trainer"))
    # Names that both set: the host's attribute is read before ours replaces it
    gone = {name for name in read - own_names() - LOOP_STATE if not hasattr(hosts[MODULES[module]], name)}
    assert not gone, f"{MODULES[module].__name__} no longer has {sorted(gone)}, which {module} reads"


@pytest.mark.parametrize("name", ["reward_funcs", "reward_func_names", "reward_processing_classes", "reward_weights"])
def test_what_the_punishment_is_added_to_is_the_hosts(hosts, name):
    assert hasattr(hosts[GRPOTrainer], name)


@pytest.mark.parametrize("name", ["loss_types", "loss_weights", "precompute_ref_logps", "data_collator"])
def test_what_the_offline_loss_is_taken_from_is_the_hosts(hosts, name):
    assert hasattr(hosts[DPOTrainer], name)


@pytest.mark.parametrize(
    ("modules", "config"),
    [
        (
            [
                *(
                    "dapo_ext.trainer",
                    "dapo_ext.loss.token_weighted_trainer",
                    "dapo_ext.sampling.old_logps",
                    "dapo_ext.config",
                ),
                *(
                    "dapo_ext.refusals.trainer_checks",
                    "dapo_ext.sampling.sampler_setup",
                    "dapo_ext.refusals.objective_checks",
                ),
                *(
                    "dapo_ext.refusals.punishment_checks",
                    "dapo_ext.refusals.selection_checks",
                    "pg_grpo.trainer",
                    "pg_grpo.config",
                ),
            ],
            GRPOConfig,
        ),
        (["pg_grpo.dpo_trainer", "pg_grpo.dpo_config", "pg_grpo.pair_loss_checks"], DPOConfig),
    ],
    ids=["GRPOConfig", "DPOConfig"],
)
def test_every_field_that_is_read_is_still_the_configs(modules, config):
    ours = {GRPOConfig: PGGRPOConfig, DPOConfig: PGDPOConfig}[config]
    known = {field.name for field in dataclasses.fields(ours)} | set(dir(ours))
    gone = set().union(*(read_names(module, ("args", "self.args", "trainer.args")) for module in modules)) - known
    assert not gone, f"{config.__name__} no longer has {sorted(gone)}"


def test_the_hosts_loss_types_are_these():
    source = inspect.getsource(DPOTrainer._compute_loss)
    tree = ast.parse(textwrap.dedent(source))
    compared = {
        node.comparators[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and ast.unparse(node.left) == "loss_type" and isinstance(node.ops[0], ast.Eq)
    }
    assert compared == set(TRL_LOSSES), "TRL has other losses for pairs: pg_grpo/pair_loss_checks.py lists them"
