"""What a run says, fetches and executes."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dapo_ext import DAPOConfig
from pg_grpo import PGDPOConfig, PGGRPOConfig
from tests.cli import GROUPS, QUICK, save_policy, write_json_lines
from tests.tiny import DEFAULTS


ROOT = Path(__file__).parents[1]
PROMPT, SECRET = "8+1+0+7=", "hf_TheTokenNobodyMaySee"
# Every look-up of a host is noted and answered as if there were no network
RECORDER = """
import json, socket, sys
asked = []
def look_up(host, *args, **kwargs):
    asked.append(str(host))
    raise socket.gaierror("no network")
socket.getaddrinfo = look_up
from pg_grpo.cli import main
main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump(asked, file)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training on the command line with a secret in the environment and among the options, and a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    model = save_policy(folder / "policy")
    data = write_json_lines(folder / "sums.jsonl", [{"prompt": PROMPT, "answer": "6"}] * 32)
    online = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    command = [sys.executable, "-c", RECORDER, str(folder / "asked.json"), "dapo", *QUICK, *GROUPS]
    where = ["--model_name_or_path", str(model), "--dataset_name", str(data), "--output_dir", str(folder / "out")]
    done = subprocess.run(
        [*command, *where, "--save_strategy", "steps", "--save_steps", "1", "--hub_token", SECRET],
        env={**online, "HF_TOKEN": SECRET, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


def test_nothing_is_fetched_that_was_not_named(run):
    """Model and data are local; TRL's ping is off, as the README says how."""
    assert json.loads((run[0] / "asked.json").read_text()) == []


def test_no_prompt_and_no_secret_is_said(run):
    folder, said = run
    said += (folder / "out" / "metrics.jsonl").read_text() + (folder / "out" / "README.md").read_text()
    assert "dapo 2/2" in said
    assert PROMPT not in said
    assert SECRET not in said


def test_what_is_added_to_a_checkpoint_holds_no_secret(run):
    # training_args.bin is the host's, who stores its own options
    files = [path for path in (run[0] / "out").rglob("*") if path.is_file() and path.name != "training_args.bin"]
    assert any(path.name == "checkpoint_manifest.json" for path in files)
    assert not [path.name for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("config", [DAPOConfig, PGGRPOConfig, PGDPOConfig])
def test_code_of_a_model_repository_does_not_run_unasked(config, tmp_path):
    options = {name: DEFAULTS[name] for name in ("use_cpu", "bf16", "gradient_checkpointing", "report_to")}
    assert config(str(tmp_path), **options).trust_remote_code is False


EXECUTING = {"eval", "exec", "compile", "pickle", "cPickle", "dill", "marshal", "shelve", "cloudpickle", "joblib"}
FETCHING = {"requests", "urllib", "httpx", "aiohttp"}


@pytest.mark.parametrize("package", ["dapo_ext", "pg_grpo"])
def test_the_packages_evaluate_unpickle_and_fetch_nothing_themselves(package):
    used = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                used.add(node.func.id)
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "torch.save", "os.system"):
                used.add(ast.unparse(node.func))
            elif isinstance(node, ast.Import):
                used.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                used.add(node.module.split(".")[0])
    assert "torch" in used
    assert not used & (EXECUTING | FETCHING | {"torch.load", "torch.save", "os.system"})
