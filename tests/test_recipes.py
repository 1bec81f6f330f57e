"""Recipes: every file is a configuration of its trainer; data and rewards do what the files expect; evaluate."""

import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, TrlParser
from trl.rewards import accuracy_reward
from trl.scripts.grpo import GRPOScriptArguments

from benchmarks import evaluate
from benchmarks.recipes import prepare
from benchmarks.recipes.countdown import countdown_reward, countdown_rows
from benchmarks.recipes.math_data import DAPO_HEAD, DAPO_TAIL, INSTRUCTION, load_rows, math_rows
from benchmarks.recipes.math_reward import math_reward
from dapo_ext import DAPOConfig
from pg_grpo import PGDPOConfig, PGGRPOConfig
from tests.tiny import policy_dir


FOLDER = Path(prepare.__file__).parent
RECIPES = sorted(path.name for path in FOLDER.glob("*.yaml"))
KINDS = {
    "dapo": (GRPOScriptArguments, DAPOConfig),
    "pggrpo": (GRPOScriptArguments, PGGRPOConfig),
    "pgdpo": (ScriptArguments, PGDPOConfig),
}
# What no machine of the tests has, and bf16 matters to no field
HERE = ["--use_cpu", "true", "--bf16", "false", "--gradient_checkpointing", "false"]


def parse(name, *flags):
    script, config = KINDS[name.split("_")[0]]
    parser = TrlParser((script, config, ModelConfig, DatasetMixtureConfig))
    arguments = ["--config", str(FOLDER / name), *HERE, *flags]
    return parser.parse_args_and_config(arguments, fail_with_unknown_args=True)


# ---- The files ----


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_configuration_of_its_trainer(name, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    script, config, model, _ = parse(name)
    assert script.dataset_name
    assert model.model_name_or_path.startswith("Qwen/Qwen2.5-")
    written = yaml.safe_load((FOLDER / name).read_text())
    for field, value in written.items():
        if hasattr(config, field) and field not in ("bf16", "gradient_checkpointing", "report_to"):
            assert getattr(config, field) == value, field
    command = (FOLDER / name).read_text()
    assert f"--config benchmarks/recipes/{name}" in command
    subcommand = name.split("_")[0]
    assert f"pg-grpo {subcommand} " in command or f"-m pg_grpo.cli {subcommand} " in command
    for reward in getattr(script, "reward_funcs", None) or []:
        module, _, function = reward.rpartition(".")
        assert callable(getattr(__import__(module, fromlist=[function]), function))


def test_a_key_nobody_takes_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.test_recipes.FOLDER", tmp_path)
    (tmp_path / "dapo_mine.yaml").write_text("clip_higher: 0.28\n")
    with pytest.raises(ValueError, match="clip_higher"):
        parse("dapo_mine.yaml")


def test_the_published_run_has_the_published_hyper_parameters():
    _, config, _, _ = parse("dapo_qwen2.5_32b_math.yaml")
    ranks = 128
    completions = config.per_device_train_batch_size * config.gradient_accumulation_steps * ranks
    assert completions == 512
    assert config.steps_per_generation // config.gradient_accumulation_steps == 16
    groups = completions * 16 // config.num_generations
    assert groups == 512
    assert config.generation_budget * groups == 10 * 1536
    assert (config.epsilon, config.epsilon_high, config.delta) == (0.2, 0.28, 10)
    assert (config.max_completion_length, config.soft_overlong_tokens) == (20480, 4096)
    assert (config.learning_rate, config.beta, config.temperature, config.top_p) == (1e-6, 0, 1, 1)
    assert config.loss_type == "dapo"
    assert config.dynamic_sampling
    assert not config.mask_truncated_completions


@pytest.mark.parametrize("name", [name for name in RECIPES if "gsm8k" in name])
def test_the_small_recipes_are_qlora_with_eight_updates_per_generation(name):
    _, config, model, _ = parse(name)
    assert model.load_in_4bit
    assert model.use_peft
    assert config.steps_per_generation // config.gradient_accumulation_steps == 8
    assert config.per_device_train_batch_size * config.steps_per_generation == 512


# ---- The data ----


GSM8K = {"question": "How many?", "answer": "He has 2 * 610 = <<2*610=1220>>1220 of them.\n#### 1,220"}


def test_published_forms_become_prompts_and_solutions():
    rows = math_rows(Dataset.from_list([GSM8K]))
    assert rows[0] == {
        "prompt": [{"role": "user", "content": f"How many?\n{INSTRUCTION}"}],
        "solution": "1220",
    }
    aime = Dataset.from_list([{"ID": "2024-I-1", "Problem": "Find n.", "Answer": 204}])
    assert math_rows(aime, conversational=False)[0] == {"prompt": f"Find n.\n{INSTRUCTION}\n", "solution": "204"}
    asked = f"{DAPO_HEAD}\n\nSolve.\n\n{DAPO_TAIL}"
    dapo = {"prompt": [{"role": "user", "content": asked}], "reward_model": {"ground_truth": "34", "style": "rule"}}
    assert math_rows(Dataset.from_list([dapo]))[0] == {
        "prompt": [{"role": "user", "content": f"Solve.\n{INSTRUCTION}"}],
        "solution": "34",
    }
    again = math_rows(math_rows(Dataset.from_list([GSM8K])))
    assert again[0] == rows[0]


def test_data_of_no_known_form_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"\['text'\] are of no known form"):
        math_rows(Dataset.from_list([{"text": "?"}]))
    with pytest.raises(ValueError, match="Row 0: its solution ''"):
        math_rows(Dataset.from_list([{"problem": "?", "answer": ""}]))
    with pytest.raises(ValueError, match="does not exist"):
        load_rows(str(tmp_path / "missing.jsonl"))
    (tmp_path / "notes.txt").write_text("?")
    with pytest.raises(ValueError, match="has to end in one of"):
        load_rows(str(tmp_path / "notes.txt"))


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_dataset_is_prepared_from_a_local_copy(name, tmp_path, capsys):
    source = tmp_path / name
    rows = Dataset.from_list([GSM8K, GSM8K, GSM8K])
    (rows.to_json if name.endswith("jsonl") else rows.to_parquet)(str(source))
    out = tmp_path / "out.jsonl"
    prepare.main(["gsm8k", "--source", str(source), "--limit", "2", "--out", str(out)])
    assert [json.loads(line)["solution"] for line in out.read_text().splitlines()] == ["1220", "1220"]
    assert "2 rows written" in capsys.readouterr().out


def test_repeated_problems_are_taken_once():
    rows = [{"prompt": [{"role": "user", "content": text}], "reward_model": {"ground_truth": "1"}} for text in "abab"]
    assert len(prepare.distinct_math_rows(Dataset.from_list(rows))) == 2


# ---- The rewards ----


@pytest.mark.parametrize(
    ("text", "solution", "reward"),
    [
        (r"So it is \boxed{\frac{1}{2}}.", "0.5", 1),
        (r"So it is \boxed{1,220}.", "1220", 1),
        ("2 + 3 = 5, and 5 * 4 = 20.\n#### 20", "20", 1),
        ("The answer is 20.", "20", 1),
        (r"\boxed{7} is wrong. So it is \boxed{8}.", "8", 1),
        (r"So it is \boxed{19}.", "20", 0),
        ("I cannot tell.", "20", 0),
        ("", "20", 0),
    ],
)
def test_answers_are_compared_as_mathematics(text, solution, reward):
    assert math_reward([text], [solution]) == [reward]
    assert math_reward([[{"role": "assistant", "content": text}]], [solution]) == [reward]


def test_prepared_rows_also_suit_the_hosts_own_reward():
    row = math_rows(Dataset.from_list([GSM8K]))[0]
    completions = [[{"role": "assistant", "content": rf"\boxed{{{answer}}}"}] for answer in (1220, 1221)]
    assert accuracy_reward(completions, [row["solution"]] * 2) == [1, 0]


@pytest.mark.parametrize(
    ("answer", "reward"),
    [
        ("(44 + 19) + 35", 1),
        ("44 + 19 + 36 - 1", 0),
        ("44 + 19", 0),
        ("44 + 19 + 35 = 98", 0),
        ("98", 0),
        ("44 / 0 + 19 + 35", 0),
        ("__import__('os').getcwd()", 0),
        ("44 ** 19 ** 35", 0),
        ("9" * 100_000, 0),
    ],
)
def test_an_equation_has_to_use_every_number_once(answer, reward):
    text = f"Let me see. <answer>1</answer> No: <answer>{answer}</answer>"
    assert countdown_reward([text], [[44, 19, 35]], [98]) == [reward]


def test_countdown_divides_exactly_and_wants_an_answer():
    assert countdown_reward(["<answer>8 / (3 - 8 / 3)</answer>"], [[8, 3, 8, 3]], [24]) == [1]
    assert countdown_reward(["44 + 19 + 35"], [[44, 19, 35]], [98]) == [0]


def test_countdown_prompts_name_numbers_and_target():
    rows = countdown_rows(Dataset.from_list([{"target": 98, "nums": [44, 19, 35]}]))
    assert "the numbers 44, 19, 35" in rows[0]["prompt"][0]["content"]
    assert "equals 98." in rows[0]["prompt"][0]["content"]
    assert set(rows.column_names) == {"prompt", "nums", "target"}


# ---- evaluate ----


def test_a_saved_model_is_evaluated(tmp_path, capsys):
    data, out = tmp_path / "aime.jsonl", tmp_path / "result.json"
    data.write_text("".join(json.dumps({"problem": f"{n}+1=", "answer": n + 1}) + "\n" for n in range(3)))
    options = ["--k", "2", "--max-completion-length", "4", "--limit", "2", "--out", str(out)]
    assert evaluate.main([policy_dir().name, str(data), *options]) == 0
    printed = capsys.readouterr().out
    assert "2 prompts x 2 completions" in printed
    assert "pass@2:" in printed
    result = json.loads(out.read_text())
    assert result["seeds"][0]["k"] == 2
    assert len(result["seeds"][0]["successes"]) == 2
    assert result["configs"]["model"]["data"] == str(data)
