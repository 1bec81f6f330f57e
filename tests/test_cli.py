"""Training commands: what they take, what they refuse, and what they leave behind."""

from pathlib import Path

import pytest
import torch
import yaml
from datasets import Dataset, DatasetDict
from transformers import AutoModelForCausalLM
from trl import DatasetMixtureConfig, DPOConfig, GRPOConfig, ModelConfig, ScriptArguments, TrlParser
from trl.scripts.grpo import GRPOScriptArguments

from dapo_ext import precision
from dapo_ext.reporting.run_log import read_metrics
from pg_grpo.cli import main
from pg_grpo.commands import launch as launcher
from pg_grpo.commands.training import make_parser
from tests.cli import GROUPS, QUICK, refused, save_policy, write_json_lines
from tests.tiny import prompts
from tests.tiny_pairs import pairs


RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save_policy(tmp_path_factory.mktemp("policy")))


@pytest.fixture(scope="module")
def sums(tmp_path_factory) -> str:
    return str(write_json_lines(tmp_path_factory.mktemp("sums") / "sums.jsonl", prompts(32).to_list()))


@pytest.fixture
def groups(model, sums, tmp_path) -> list[str]:
    """A training on groups that lacks nothing."""
    where = ["--model_name_or_path", model, "--dataset_name", sums, "--output_dir", str(tmp_path / "run")]
    return [*where, *QUICK, *GROUPS]


def test_dapo_trains_offline_and_leaves_model_metrics_and_card(groups, tmp_path, capsys):
    main(["dapo", *groups, "--generation_budget", "4"])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [record["step"] for record in records if "loss" in record] == [1, 2]
    assert records[0]["dynamic_sampling/generated_groups"] > 0
    AutoModelForCausalLM.from_pretrained(tmp_path / "run")
    card = (tmp_path / "run" / "README.md").read_text()
    assert "trained with DAPO, a method introduced in [DAPO: An Open-Source" in card
    assert "generation_budget: 4.0" in card
    assert str(tmp_path) not in card
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("dapo 1/2  0:00:0")
    assert "accept rate" in lines[0]
    assert "tokens/s" in lines[1]


def test_the_guards_are_on(groups, caplog):
    """Nearly every completion is cut off after two tokens."""
    main(["dapo", *groups, "--max_completion_length", "2", "--soft_overlong_cache", "0", "--max_steps", "20"])
    said = [record.getMessage() for record in caplog.records if record.name == "dapo_ext.reporting.guards"]
    assert any("Truncation at step" in each for each in said)


def test_pggrpo_trains_with_a_yaml_of_flags_lists_and_environment(groups, tmp_path, monkeypatch):
    monkeypatch.delenv("PG_GRPO_TEST", raising=False)
    values = {"env": {"PG_GRPO_TEST": "set"}, "pg_beta": 0.3, "learning_rate": "1e-3", "reward_weights": [2.0]}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
    main(["pggrpo", f"--config={tmp_path / 'run.yaml'}", *groups])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert records[0]["pg_grpo/exponent_mean"] == pytest.approx(0.3)
    assert "trained with PG-GRPO" in (tmp_path / "run" / "README.md").read_text()


def conversational(row: dict, explicit: bool) -> dict:
    prompt = [{"role": "user", "content": row["prompt"]}]
    sides = {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    if explicit:
        return {"prompt": prompt, **sides}
    return {side: prompt + turn for side, turn in sides.items()}


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("chat", [True, False])
def test_pgdpo_trains_on_each_of_trls_preference_formats_alike(model, tmp_path, explicit, chat):
    rows = pairs(8).to_list()
    if chat:
        rows = [conversational(row, explicit) for row in rows]
    elif not explicit:
        rows = [{side: row["prompt"] + row[side] for side in ("chosen", "rejected")} for row in rows]
    data = write_json_lines(tmp_path / "pairs.jsonl", rows)
    where = ["--model_name_or_path", model, "--dataset_name", str(data), "--output_dir", str(tmp_path / "run")]
    main(["pgdpo", *where, *QUICK, "--per_device_train_batch_size", "4"])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert records[0]["pg_dpo/chosen_ratio_mean"] == pytest.approx(1.0)
    assert [record["step"] for record in records if "loss" in record] == [1, 2]


# ---- What is refused ----


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--max_step", "4"], "unknown argument `max_step`. Did you mean `max_steps`?"),
        (["--max", "4"], "unknown argument `max`"),
        (["--generation-budgets=2"], "Did you mean `generation_budget`?"),
        (["--qqqq"], "unknown argument `qqqq`.\n"),
        (["--num_generations", "7"], "must be divisible by num_generations (7)"),
        (["--generation_budget", "0.5"], "`generation_budget=0.5` is refused"),
        (["--max_steps", "many"], "invalid int value: 'many'"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config"], "--config needs the path"),
        (["--dataset_name", "./nowhere.json"], "`dataset_name='./nowhere.json'` does not exist"),
        (["--eval_strategy", "steps", "--eval_steps", "1"], "`dataset_test_split='test'` is no split of the dataset"),
        (["--reward_funcs", "acuracy_reward"], "Did you mean 'accuracy_reward'?"),
        (["--reward_funcs", "tests.cli.od_sum"], "Did you mean 'odd_sum'?"),
        (["--reward_funcs", "no_such_module.reward"], "there is no module 'no_such_module'"),
    ],
)
def test_what_cannot_be_taken_is_named_with_what_may_have_been_meant(groups, capsys, extra, said):
    assert said in refused(capsys, "dapo", *groups, *extra)


def test_files_that_are_not_what_they_are_called_are_named_in_one_line(groups, tmp_path, capsys):
    broken = tmp_path / "run.yaml"
    broken.write_text("learning_rate: [1\nbeta: 0\n")
    said = refused(capsys, "dapo", *groups, "--config", str(broken))
    assert f"error: the config file {broken} is no valid YAML: " in said
    assert len(said.splitlines()) == 2  # with the one that points to --help
    broken = tmp_path / "sums.jsonl"
    broken.write_text('{"prompt": "1+1="}\n{"prompt": \n')
    said = refused(capsys, "dapo", *groups, "--dataset_name", str(broken))
    assert f"error: the dataset {broken} cannot be read: " in said


@pytest.mark.parametrize("error", [ValueError, FileNotFoundError])
def test_an_error_of_the_users_own_module_keeps_its_traceback(groups, tmp_path, monkeypatch, error):
    name = f"rewards_with_{error.__name__}"
    (tmp_path / f"{name}.py").write_text(f"raise {error.__name__}('of the module')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(error, match="of the module"):
        main(["dapo", *groups, "--reward_funcs", f"{name}.reward"])


def failing_reward(**kwargs):
    raise ValueError("of the reward")


def test_an_error_of_the_users_reward_function_keeps_its_traceback(groups):
    with pytest.raises(ValueError, match="of the reward"):
        main(["dapo", *groups, "--reward_funcs", "tests.test_cli.failing_reward"])


@pytest.mark.parametrize(
    ("in_file", "flags", "pg_beta"),
    [
        ({}, ["--pg_beta", "0.1", "--beta", "0.3"], None),
        ({"pg_beta": 0.1}, ["--beta", "0.3"], None),
        ({"beta": 0.3}, ["--pg_beta", "0.1"], None),
        ({"beta": 0.1}, ["--pg_beta", "0.3"], None),
        ({"beta": 0.3}, ["--pg_beta", "0.3"], 0.3),
        ({"beta": 0.3}, [], 0.3),
        ({"pg_beta": 0.3}, [], 0.3),
        ({}, [], 0.1),
    ],
)
def test_beta_and_pg_beta_agree_or_are_refused(tmp_path, capsys, in_file, flags, pg_beta):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(in_file))
    options = ["--config", str(tmp_path / "run.yaml"), "--use_cpu", "--bf16", "false", *flags]
    if pg_beta is None:
        assert "is refused: it mirrors pg_beta" in refused(capsys, "pgdpo", *options)
    else:
        _, config, _, _ = make_parser("pgdpo", print).parse(options)
        assert (config.pg_beta, config.beta) == (pg_beta, pg_beta)


# ---- Resuming ----


@pytest.mark.parametrize("newest", ["True", "true"])
def test_a_flag_resumes_from_the_newest_checkpoint(groups, tmp_path, newest):
    saving = ["--save_strategy", "steps", "--save_steps", "1"]
    main(["dapo", *groups, *saving])
    main(["dapo", *groups, *saving, "--max_steps", "3", "--resume_from_checkpoint", newest])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [record["step"] for record in records if "loss" in record] == [1, 2, 3]


def test_a_checkpoint_that_is_not_there_is_refused_in_one_line(groups, tmp_path, capsys):
    said = refused(capsys, "dapo", *groups, "--resume_from_checkpoint", "true")
    assert f"`resume_from_checkpoint=True` is refused: {tmp_path / 'run'} holds no checkpoint" in said
    said = refused(capsys, "dapo", *groups, "--resume_from_checkpoint", str(tmp_path / "checkpoint-7"))
    assert "there is no such folder" in said


@pytest.mark.parametrize("none", ["false", ""])
def test_a_flag_begins_anew_as_in_trl(groups, none, tmp_path):
    main(["dapo", *groups, "--resume_from_checkpoint", none])
    assert [record["step"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in record] == [1, 2]


@pytest.mark.parametrize("key", ["learning-rate", "learnin_rate"])
def test_an_unknown_key_of_the_file_is_an_error(groups, tmp_path, capsys, key):
    (tmp_path / "run.yaml").write_text(f"{key}: 1.0e-4\n")
    said = refused(capsys, "dapo", *groups, "--config", str(tmp_path / "run.yaml"))
    assert f"unknown key of the config file `{key}`. Did you mean `learning_rate`?" in said


def test_pairs_without_a_rejected_side_are_refused_with_the_columns_there_are(model, sums, tmp_path, capsys):
    where = ["--model_name_or_path", model, "--dataset_name", sums, "--output_dir", str(tmp_path)]
    assert "no column 'chosen'; it has ['prompt', 'answer', 'terms']" in refused(capsys, "pgdpo", *where, *QUICK)


# ---- Where data may lie ----


def arrange(kind: str, directory: Path) -> str:
    """The same 16 prompts as a file or a folder of each kind."""
    dataset = prompts(16)
    directory.mkdir()
    if kind in ("json", "jsonl"):
        dataset.to_json(directory / f"data.{kind}")
        return str(directory / f"data.{kind}")
    if kind == "parquet":
        dataset.to_parquet(directory / "data.parquet")
        return str(directory / "data.parquet")
    if kind == "folder of files":
        dataset.to_parquet(directory / "train.parquet")
    elif kind == "saved":
        dataset.save_to_disk(directory)
    else:
        DatasetDict({"train": dataset, "test": dataset.select(range(8))}).save_to_disk(directory)
    return str(directory)


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet", "folder of files", "saved", "saved with splits"])
def test_local_data_of_every_kind(tmp_path, kind):
    from pg_grpo.commands.data import load_splits, pick_split

    script = ScriptArguments(dataset_name=arrange(kind, tmp_path / "data"))
    train = pick_split(load_splits(script, DatasetMixtureConfig(), print), "train", "dataset_train_split")
    assert train.to_dict() == prompts(16).to_dict()
    script.dataset_streaming = True
    stream = pick_split(load_splits(script, DatasetMixtureConfig(), print), "train", "dataset_train_split")
    assert list(stream) == prompts(16).to_list()


# ---- Files of TRL's, and the dry run ----


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_are_valid_for_trl_itself(recipe):
    """Offline, on this machine: with `use_cpu` and float32, which TRL does not choose by itself."""
    script, config = (
        (ScriptArguments, DPOConfig) if recipe.stem.startswith("dpo") else (GRPOScriptArguments, GRPOConfig)
    )
    parser = TrlParser((script, config, ModelConfig, DatasetMixtureConfig))
    arguments = ["--config", str(recipe), "--use_cpu", "--bf16", "false"]
    parsed = parser.parse_args_and_config(arguments, fail_with_unknown_args=True)
    given = yaml.safe_load(recipe.read_text())
    assert parsed[1].learning_rate == float(given["learning_rate"])
    assert parsed[2].model_name_or_path == given["model_name_or_path"]


def dry_run(capsys, *arguments: str) -> tuple[dict, dict[str, str]]:
    """The resolved configuration and the batch arithmetic that a dry run prints."""
    main([*arguments, "--dry_run"])
    out = capsys.readouterr().out
    configuration, table = out.split("Batch arithmetic")
    rows = [line.strip("│ ").split("│") for line in table.splitlines() if line.startswith("│")]
    return yaml.safe_load(configuration), {name.strip(): value.strip() for name, value in rows}


@pytest.fixture
def local_data(tmp_path) -> dict[str, str]:
    rows = [conversational(row, explicit=False) for row in pairs(32).to_list()]
    both = Dataset.from_list(rows)
    DatasetDict({"train": both, "test": both.select(range(4))}).save_to_disk(tmp_path / "pairs")
    sums = write_json_lines(
        tmp_path / "sums.jsonl", [{**row, "solution": row["answer"]} for row in prompts(64).to_list()]
    )
    return {"pairs": str(tmp_path / "pairs"), "sums": str(sums)}


RECIPE_CASES = [
    (
        *("grpo_math", ["dapo", "pggrpo"]),
        {
            "prompts (groups) per generation": "8",
            "completions per generation": "64",
            "optimizer steps (updates) per generation": "4",
            "completions per optimizer step": "16",
            "completion tokens per generation trained on, at most": "65,536",
            "optimizer steps": "500",
            "prompts trained on": "1,000",
        },
    ),
    (
        *("grpo_math_qlora", ["dapo", "pggrpo"]),
        {
            "prompts (groups) per generation": "4",
            "completions per generation": "32",
            "optimizer steps (updates) per generation": "2",
            "completions per optimizer step": "32",
            # 64 prompts x 8 completions, each seen twice, in steps of 32
            "optimizer steps": "32",
            "prompts trained on": "64",
        },
    ),
    (
        *("dpo_lora", ["pgdpo"]),
        {
            "pairs per optimizer step": "16",
            "optimizer steps": "2",
            "pairs trained on": "32",
            "tokens per optimizer step, at most": "32,768",
        },
    ),
]


@pytest.mark.parametrize(
    ("recipe", "command", "expected"),
    [(recipe, command, expected) for recipe, commands, expected in RECIPE_CASES for command in commands],
)
def test_a_trl_file_runs_unchanged_and_its_dry_run_counts_right(
    recipe, command, expected, model, local_data, tmp_path, monkeypatch, capsys
):
    """Unchanged but for what is not on this machine: model and data, and the directory to write to."""
    monkeypatch.setattr(precision, "cpu_bf16_obstacle", lambda: "a trial product was ended by signal 4")
    path = next(path for path in RECIPES if path.stem == recipe)
    data = local_data["pairs" if command == "pgdpo" else "sums"]
    if "qlora" in recipe:  # a mixture: its path is read from the file
        values = yaml.safe_load(path.read_text())
        values["datasets"] = [{"path": "json", "data_files": data, "split": "train"}]
        path = tmp_path / path.name
        path.write_text(yaml.safe_dump(values))
        data = ""
    where = ["--model_name_or_path", model, "--dataset_name", data, "--output_dir", str(tmp_path / "run")]
    configuration, counts = dry_run(capsys, command, "--config", str(path), *where)
    assert {name: counts[name] for name in expected} == expected
    assert configuration["output_dir"] == str(tmp_path / "run")
    assert configuration["bf16"] is False
    assert not (tmp_path / "run").exists()
    assert configuration.get("datasets") == (
        [{"path": "json", "data_files": local_data["sums"]}] if "qlora" in recipe else None
    )
    if recipe == "dpo_lora":
        assert configuration["pg_beta"] == configuration["beta"] == 0.05
    if "qlora" in recipe:
        assert configuration["use_bnb_nested_quant"] is True
        assert int(counts["of these trained"].replace(",", "")) < int(counts["parameters"].replace(",", ""))


def test_the_dry_run_counts_what_the_run_then_does(groups, tmp_path, capsys):
    extra = ["--steps_per_generation", "4", "--num_train_epochs", "1", "--max_steps", "-1", "--no_dynamic_sampling"]
    _, counts = dry_run(capsys, "dapo", *groups, *extra)
    main(["dapo", *groups, *extra])
    records = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert int(counts["optimizer steps"]) == max(record["step"] for record in records) == 16
    # Metrics of a generation are logged in its first step only
    assert int(counts["generations"]) == sum("completions/mean_length" in record for record in records) == 4


def test_a_dry_run_leaves_nothing_behind(groups, tmp_path, capsys):
    dry_run(capsys, "dapo", *groups, "--log_completions")
    assert not (tmp_path / "run").exists()


def test_a_dry_run_counts_without_a_length_limit(groups, tmp_path, capsys):
    (tmp_path / "run.yaml").write_text("max_completion_length: null\nsoft_overlong_cache: 0\n")
    at = groups.index("--max_completion_length")
    asked = groups[:at] + groups[at + 2 :]
    configuration, counts = dry_run(capsys, "dapo", "--config", str(tmp_path / "run.yaml"), *asked)
    assert configuration["max_completion_length"] is None
    assert counts["completion tokens generated for one batch, at most"] == "unknown"


def test_the_home_directory_may_be_named_in_a_file(groups, sums, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(Path(sums).parent))
    (tmp_path / "run.yaml").write_text("dataset_name: ~/sums.jsonl\n")
    asked = [each for each in groups if each not in ("--dataset_name", sums)]
    _, counts = dry_run(capsys, "dapo", "--config", str(tmp_path / "run.yaml"), *asked)
    assert counts["rows of the dataset"] == "32"


def test_pairs_scored_are_an_upper_bound(model, local_data, tmp_path, capsys):
    where = ["--model_name_or_path", model, "--dataset_name", local_data["pairs"], "--output_dir", str(tmp_path)]
    batch = ["--per_device_train_batch_size", "4", "--dynamic_pairs", "--pair_budget", "3"]
    _, counts = dry_run(capsys, "pgdpo", *where, *QUICK, *batch)
    assert counts["pairs scored for one optimizer step, at most"] == "12"


def test_the_resolved_configuration_resolves_to_itself(groups, tmp_path, capsys):
    first, _ = dry_run(capsys, "dapo", *groups)
    first.pop("model_init_kwargs")  # made of the model's own options
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(first))
    second, _ = dry_run(capsys, "dapo", "--config", str(tmp_path / "resolved.yaml"))
    second.pop("model_init_kwargs")
    assert second == first


# ---- Precision ----


def test_unusable_bfloat16_becomes_float32_and_is_said(groups, monkeypatch, capsys):
    monkeypatch.setattr(precision, "cpu_bf16_obstacle", lambda: "a trial product was ended by signal 4")
    asked = [each for each in groups if each not in ("--bf16", "--use_cpu")]
    asked.remove("false")
    configuration, _ = dry_run(capsys, "dapo", *asked, "--bf16", "true", "--dtype", "bfloat16")
    assert configuration["bf16"] is False
    assert configuration["model_init_kwargs"]["dtype"] == "float32"


def test_what_is_said_names_what_was_set_aside(model, monkeypatch):
    said = []
    monkeypatch.setattr(precision, "cpu_bf16_obstacle", lambda: "a trial product was ended by signal 4")
    parser = make_parser("dapo", said.append)
    _, config, options, _ = parser.parse(["--bf16", "true", "--dtype", "bfloat16", "--use_cpu"])
    assert (config.bf16, options.dtype) == (False, "float32")
    assert said == [
        "float32 is taken (bf16: true is set aside, dtype: bfloat16 becomes float32): a trial product was ended by "
        "signal 4."
    ]


def test_usable_bfloat16_is_left_alone(monkeypatch):
    monkeypatch.setattr(precision, "cpu_bf16_obstacle", lambda: None)
    said = []
    _, config, options, _ = make_parser("dapo", said.append).parse(["--dtype", "bfloat16", "--use_cpu"])
    assert (config.bf16, options.dtype, said) == (True, "bfloat16", [])


# ---- Launching ----


def test_options_of_the_launcher_go_to_accelerate(groups, monkeypatch, tmp_path):
    started = []
    monkeypatch.setattr(launcher, "launch_command", started.append)
    for variable in ("ACCELERATE_MIXED_PRECISION", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "run.yaml").write_text("num_processes: 2\nmulti_gpu: true\nmax_steps: 3\n")
    main(["dapo", "--mixed_precision=no", "--config", str(tmp_path / "run.yaml"), *groups, "--num_machines", "1"])
    (launch,) = started
    chosen = (launch.num_processes, launch.multi_gpu, launch.mixed_precision, launch.num_machines)
    assert chosen == (2, True, "no", 1)
    assert launch.module
    assert launch.training_script == "pg_grpo.cli"
    assert launch.training_script_args == ["dapo", "--config", str(tmp_path / "run.yaml"), *groups]


def test_several_devices_are_all_trained_on(groups, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(launcher, "launch_command", started.append)
    monkeypatch.setattr("torch.accelerator.is_available", lambda: True)
    monkeypatch.setattr("torch.accelerator.device_count", lambda: 2)
    for variable in ("ACCELERATE_MIXED_PRECISION", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    options = [each for each in groups if each != "--use_cpu"]
    main(["dapo", *options])
    (launch,) = started
    assert launch.training_script_args == ["dapo", *options]
    assert "note: 2 accelerators: `accelerate launch` is started." in capsys.readouterr().err
    main(["dapo", *groups, "--dry_run"])  # on the CPU
    assert len(started) == 1


def test_what_depends_on_the_number_of_processes_is_left_to_them(groups, monkeypatch):
    """Four rows on each of two make a group of eight."""
    started = []
    monkeypatch.setattr(launcher, "launch_command", started.append)
    for variable in ("ACCELERATE_MIXED_PRECISION", "LOCAL_RANK"):
        monkeypatch.delenv(variable, raising=False)
    rows = ["--per_device_train_batch_size", "4", "--num_generations", "8", "--gradient_accumulation_steps", "1"]
    main(["dapo", *groups, *rows, "--num_processes", "2"])
    assert len(started) == 1


def test_a_launched_process_does_not_launch_again(groups, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    (tmp_path / "run.yaml").write_text("num_processes: 2\n")
    _, counts = dry_run(capsys, "dapo", "--config", str(tmp_path / "run.yaml"), *groups)
    assert counts["processes"] == "1"


def test_help_lists_every_field_of_trl_and_the_new_ones(capsys):
    for command, new in (("dapo", "--generation_budget"), ("pggrpo", "--pg_beta"), ("pgdpo", "--pair_budget")):
        with pytest.raises(SystemExit) as stopped:
            main([command, "--help"])
        assert stopped.value.code == 0
        text = capsys.readouterr().out
        for option in (new, "--dry_run", "--config FILE.yaml", "--load_in_4bit", "--learning_rate", "--datasets"):
            assert option in text, option


# ---- Report ----


def test_report_of_a_run_and_of_a_checkpoint_agree(groups, tmp_path, capsys):
    main(["dapo", *groups, "--save_strategy", "steps", "--save_steps", "2"])
    run = tmp_path / "run"
    main(["report", str(run)])
    said = capsys.readouterr().out
    assert "metrics.jsonl, 2 optimizer steps" in said
    assert "dynamic_sampling/accept_rate" in said
    picture = (run / "report.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    main(["report", str(run / "checkpoint-2"), "--output", str(tmp_path / "checkpoint.png")])
    assert "trainer_state.json, 2 optimizer steps" in capsys.readouterr().out
    assert (tmp_path / "checkpoint.png").read_bytes() == picture
    (run / "metrics.jsonl").unlink()
    main(["report", str(run)])
    assert "trainer_state.json" in capsys.readouterr().out


def test_report_summarises_each_metric_by_hand():
    from pg_grpo.commands.report import summarise

    records = [{"step": i, "epoch": i / 20, "reward": float(i), "note": "text"} for i in range(1, 21)]
    assert summarise(records) == {"reward": {"first": 1.0, "last": 19.5, "smallest": 1.0, "largest": 20.0}}


def test_report_of_nothing_says_what_it_looked_for(tmp_path):
    with pytest.raises(SystemExit, match=r"neither metrics\.jsonl nor a checkpoint"):
        main(["report", str(tmp_path)])
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(SystemExit, match="nothing was logged"):
        main(["report", str(tmp_path)])


def test_env_names_versions_and_what_works(monkeypatch, capsys):
    monkeypatch.setattr("pg_grpo.commands.environment.cpu_bf16_obstacle", lambda: "it was ended by signal 4")
    monkeypatch.setattr(precision, "cpu_bf16_obstacle", lambda: "it was ended by signal 4")
    main(["env"])
    out = capsys.readouterr().out
    assert f"PyTorch version: {torch.__version__.split('+')[0]}" in out
    assert "- bfloat16 on the CPU: does not work: it was ended by signal 4" in out
    assert "- 4-bit on the CPU: works" in out
    assert "- generation backends: transformers" in out
