"""What leaves a run for others to see: the model card, the Hub, and the trackers."""

import os
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from transformers import trainer as host
from transformers.integrations import integration_utils

from pg_grpo.cli import main
from tests.cli import GROUPS, QUICK, save_policy, write_json_lines
from tests.pg_tiny import pg_trainer
from tests.tiny import dapo_trainer, prompts
from tests.tiny_pairs import pg_dpo_trainer


def card_of(trainer) -> tuple[str, dict]:
    """The card's text and the configuration in it."""
    trainer.create_model_card(model_name="mine", dataset_name="trl-lib/DeepMath-103K")
    with open(f"{trainer.args.output_dir}/README.md", encoding="utf-8") as file:
        card = file.read()
    return card, yaml.safe_load(card.split("```yaml\n")[1].split("```")[0])


@pytest.mark.parametrize(
    ("build", "method", "paper", "field", "value"),
    [
        (dapo_trainer, "DAPO", "https://huggingface.co/papers/2503.14476", "generation_budget", 3.0),
        (pg_trainer, "PG-GRPO", None, "pg_beta", 0.25),
        (pg_dpo_trainer, "PG-DPO", "https://huggingface.co/papers/2305.18290", "pg_beta", 0.25),
    ],
)
def test_the_card_names_method_paper_and_configuration(tmp_path, build, method, paper, field, value):
    card, configuration = card_of(build(tmp_path, **{field: value}))
    assert f"This model was trained with {method}" in card
    assert paper is None or paper in card
    assert configuration[field] == value
    assert configuration["learning_rate"] == 1e-3
    assert card.count("### Configuration") == 1
    assert "None" not in card.split("## Quick start")[0]


def test_the_card_keeps_what_concerns_this_machine_alone_to_itself(tmp_path):
    card, configuration = card_of(dapo_trainer(tmp_path, hub_token="secret", hub_model_id="me/mine"))
    assert str(tmp_path) not in card
    assert "secret" not in card
    assert not {"output_dir", "hub_token", "hub_model_id", "use_cpu"} & set(configuration)


@pytest.mark.parametrize(
    ("build", "chosen"),
    [
        (pg_trainer, {"loss_type": "dapo", "scale_rewards": "group", "beta": 0.0}),  # TRL's defaults, not the method's
        (dapo_trainer, {"epsilon_high": None}),  # TRL's as well
        (pg_dpo_trainer, {"max_length": None, "pad_token": "<pad>"}),
        (pg_dpo_trainer, {"max_length": 64}),
    ],
)
def test_the_card_lists_every_value_that_is_not_the_default(tmp_path, build, chosen):
    _, configuration = card_of(build(tmp_path, **chosen))
    assert {name: configuration[name] for name in chosen} == chosen


def test_the_card_writes_values_of_other_types_as_plain_ones(tmp_path):
    chosen = {
        "learning_rate": np.float64(2e-5),
        "model_init_kwargs": {"torch_dtype": torch.float32},
        "lr_scheduler_type": "polynomial",
        "lr_scheduler_kwargs": {"power": np.float32(0.5)},
    }
    _, configuration = card_of(dapo_trainer(tmp_path, **chosen))
    assert configuration["learning_rate"] == 2e-5
    assert configuration["model_init_kwargs"] == {"torch_dtype": "torch.float32"}
    assert configuration["lr_scheduler_kwargs"] == {"power": 0.5}


@pytest.mark.parametrize("build", [dapo_trainer, pg_trainer, pg_dpo_trainer])
def test_the_card_leaves_out_what_the_host_filled_in(tmp_path, build):
    _, configuration = card_of(build(tmp_path))
    filled_in = {"accelerator_config", "debug", "disable_tqdm", "pad_to_multiple_of", "pad_token", "max_length"}
    assert not filled_in & set(configuration)
    other = build(tmp_path, accelerator_config={"non_blocking": True})
    assert card_of(other)[1]["accelerator_config"]["non_blocking"] is True


def test_push_to_hub_uploads_model_card_and_metrics(tmp_path, monkeypatch):
    """On a stub of the Hub's client: nothing is sent."""
    calls, uploaded = [], []

    def create_repo(repo_id, **kwargs):
        calls.append(("create", repo_id))
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(repo_id, folder_path, **kwargs):
        calls.append(("upload", repo_id))
        uploaded.extend(os.listdir(folder_path))

    folder = tmp_path / "run"
    api = SimpleNamespace(create_repo=create_repo, upload_folder=upload_folder)
    monkeypatch.setattr(host, "hf_api", lambda: api)
    data = write_json_lines(tmp_path / "sums.jsonl", prompts(16).to_list())
    model = save_policy(tmp_path / "policy")
    where = ["--model_name_or_path", str(model), "--dataset_name", str(data), "--output_dir", str(folder)]
    main(["dapo", *where, *QUICK, *GROUPS, "--push_to_hub", "--hub_model_id", "me/mine", "--max_steps", "1"])
    assert ("create", "me/mine") in calls
    assert ("upload", "me/mine") in calls
    assert {"README.md", "model.safetensors", "metrics.jsonl", "tokenizer.json"} <= set(uploaded)
    card = (folder / "README.md").read_text()
    assert "### Configuration" in card
    assert str(tmp_path) not in card


@pytest.fixture
def tensorboard(monkeypatch) -> dict[str, list[tuple[int, float]]]:
    """What transformers' own TensorBoard integration writes, to a writer that only remembers."""
    written: dict[str, list[tuple[int, float]]] = {}

    class Writer:
        def __init__(self, log_dir):
            pass

        def add_scalar(self, name, value, step):
            written.setdefault(name, []).append((step, value))

        def add_text(self, *args):
            pass

        def flush(self):
            pass

        def close(self):
            pass

    module = ModuleType("tensorboardX")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    return written


@pytest.mark.parametrize(
    ("build", "options", "prefixes"),
    [
        (dapo_trainer, {}, ["dynamic_sampling/", "completions/", "rewards/soft_overlong"]),
        (pg_trainer, {"beta": 0.1}, ["pg_grpo/", "clip_ratio/", "kl"]),
        (pg_dpo_trainer, {"dynamic_pairs": True}, ["pg_dpo/", "dynamic_pairs/", "rewards/margins"]),
    ],
)
def test_a_tracker_gets_every_metric_at_its_step(tmp_path, tensorboard, build, options, prefixes):
    trainer = build(tmp_path, report_to="tensorboard", **options)
    trainer.train()
    expected = {}
    for record in trainer.state.log_history:
        for name, value in record.items():
            if name != "step":
                expected.setdefault(name, []).append((record["step"], value))
    got = {name.removeprefix("train/"): points for name, points in tensorboard.items()}
    assert got == expected
    for prefix in prefixes:
        assert any(name.startswith(prefix) for name in got), prefix
