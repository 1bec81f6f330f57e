"""The engines' configuration files, as accelerate reads them, and the one engine that runs here through its file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file


RECIPES = Path(__file__).parent.parent / "recipes" / "accelerate"
WORKER = Path(__file__).with_name("two_ranks_worker.py")
ENGINES = {
    "ddp": "MULTI_GPU",
    "ddp_cpu": "MULTI_GPU",
    "fsdp2": "FSDP",
    "deepspeed_zero2": "DEEPSPEED",
    "deepspeed_zero3": "DEEPSPEED",
}


def test_every_file_has_its_engine():
    assert {path.stem for path in RECIPES.glob("*.yaml")} == set(ENGINES)


@pytest.mark.parametrize("name", ENGINES)
def test_accelerate_reads_the_file(name):
    """An unknown key is an error of accelerate's."""
    config = load_config_from_file(str(RECIPES / f"{name}.yaml"))
    assert config.distributed_type == ENGINES[name]
    assert config.num_processes > 1


@pytest.mark.two_ranks
@pytest.mark.xdist_group("two ranks")
def test_the_file_for_two_processes_trains(tmp_path):
    launcher = ["-m", "accelerate.commands.launch", "--config_file", str(RECIPES / "ddp_cpu.yaml")]
    done = subprocess.run(
        [sys.executable, *launcher, "--main_process_port", "0", str(WORKER), str(tmp_path), "shrink"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent.parent)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "world2-rank1.json").exists()
