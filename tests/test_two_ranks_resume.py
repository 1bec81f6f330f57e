"""Two gloo ranks resume as they would have gone on; another number of ranks is refused, or changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dapo_ext.resume.checkpoint_manifest import MANIFEST_FILE
from tests.resume_trainers import dapo, pg_dpo
from tests.test_refusals import refused


WORKER = Path(__file__).with_name("two_ranks_resume_worker.py")
pytestmark = [pytest.mark.two_ranks, pytest.mark.xdist_group("two ranks")]


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two_ranks_resume")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", WORKER, folder],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent.parent)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if done.returncode:
        own = [line for line in done.stderr.splitlines() if line.startswith("[rank")]  # without the launcher's
        raise AssertionError("\n".join(own or done.stderr.splitlines()[-20:]))
    return folder


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", ["DAPOTrainer", "PGGRPOTrainer", "PGDPOTrainer"])
def test_every_rank_goes_on_as_if_it_had_not_stopped(output_dir, name, rank):
    runs = json.loads((output_dir / f"rank{rank}.json").read_text())[name]
    whole = runs.pop("whole")
    batches = whole.pop("batches")
    assert whole["epoch"] == 2
    for step, resumed in runs.items():
        seen = resumed.pop("batches")
        assert resumed == whole, step
        assert seen == {made: batch for made, batch in batches.items() if int(made) >= int(step)}, step


def test_every_rank_has_its_own_random_state_and_rows(output_dir):
    first, second = (json.loads((output_dir / f"rank{rank}.json").read_text())["DAPOTrainer"] for rank in range(2))
    assert first["whole"]["weights"] == second["whole"]["weights"]
    assert first["whole"]["random state"] != second["whole"]["random state"]
    assert first["whole"]["batches"]["1"] != second["whole"]["batches"]["1"]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_checkpoint_that_one_node_lacks_is_refused_on_all(output_dir, rank):
    refusal = json.loads((output_dir / f"rank{rank}.json").read_text())["refused"]
    assert f"{MANIFEST_FILE}, which rank 1 goes on from, is not part of it on that rank's node" in refusal


@pytest.mark.parametrize(("make", "name"), [(dapo, "DAPOTrainer"), (pg_dpo, "PGDPOTrainer")])
def test_one_rank_may_not_take_up_what_two_have_sampled(output_dir, tmp_path, make, name):
    with refused("resume_from_checkpoint") as error:
        make(tmp_path).train(resume_from_checkpoint=output_dir / name / "checkpoint-5")
    assert "num_processes is 2 there and 1 here" in str(error.value)


def test_one_rank_takes_up_the_pairs_of_two(output_dir, tmp_path):
    """The only difference is the order of summation."""
    resumed = pg_dpo(tmp_path, dropout=0.0, dynamic_pairs=False, max_steps=6)
    resumed.train(resume_from_checkpoint=output_dir / "pairs" / "checkpoint-5")
    two = output_dir / "pairs" / "checkpoint-6"
    for name, weight in load_file(two / "adapter_model.safetensors").items():
        here = resumed.model.get_parameter(name.replace(".weight", ".default.weight"))
        torch.testing.assert_close(here, weight, rtol=1e-4, atol=1e-5)
