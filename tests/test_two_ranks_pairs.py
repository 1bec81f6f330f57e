"""PG-DPO on two gloo ranks: in step, and the loss of one rank."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.two_ranks_pairs_worker import RUNS, train


WORKER = Path(__file__).with_name("two_ranks_pairs_worker.py")
pytestmark = [pytest.mark.two_ranks, pytest.mark.xdist_group("two ranks")]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory) -> list[dict]:
    output_dir = tmp_path_factory.mktemp("two_ranks_pairs")
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", WORKER, output_dir],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent.parent)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if done.returncode:
        own = [line for line in done.stderr.splitlines() if line.startswith("[rank")]  # without the launcher's
        raise AssertionError("\n".join(own or done.stderr.splitlines()[-20:]))
    return [json.loads((output_dir / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", RUNS)
def test_the_ranks_stay_in_step(ranks, name):
    first, second = (rank[name] for rank in ranks)
    for key in ("steps", "stop_reason", "sampler", "weights"):
        assert first[key] == second[key], key


@pytest.mark.parametrize("name", ["plain", "shrunk"])
def test_two_ranks_train_as_one(ranks, tmp_path, name):
    alone, together = train(tmp_path, name, 1), ranks[0][name]
    assert together["steps"] == alone["steps"]
    assert together["kept"] == alone["kept"]
    torch.testing.assert_close(torch.tensor(together["weights"]), torch.tensor(alone["weights"]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(together["losses"]), torch.tensor(alone["losses"]), rtol=1e-4, atol=1e-5)
    if name == "shrunk":
        assert 0 < min(alone["kept"]) < 8


def test_two_ranks_converge_together(ranks):
    dynamic = ranks[0]["dynamic"]
    assert 0 < dynamic["steps"] < 200
    assert dynamic["stop_reason"].startswith("It has converged: of all 16 pairs")
    assert dynamic["kept"][-1] == 0
    assert max(dynamic["scored"]) > 8


def test_refills_give_every_rank_whole_groups_where_a_reward_compares_within_them(ranks):
    """A group across ranks would have been refused by the reward function."""
    first, second = (rank["preferences"] for rank in ranks)
    assert first == second
    assert first["ledger"]["generated_groups"] > first["ledger"]["trained_groups"] == 24
