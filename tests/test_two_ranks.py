"""Two and three gloo ranks with groups that straddle them: in step, equal weights, and the same groups as one rank."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch


WORKER = Path(__file__).with_name("two_ranks_worker.py")
pytestmark = pytest.mark.xdist_group("two ranks")


def run(output_dir: Path, mode: str, world: int, *arguments: str, timeout: int = 200) -> list[dict]:
    """Train on `world` ranks and return what each of them wrote."""
    launcher = [sys.executable]
    if world > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent.parent)}
    done = subprocess.run(
        [*launcher, str(WORKER), str(output_dir), mode, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        own = [line for line in done.stderr.splitlines() if line.startswith("[rank")]  # without the launcher's
        raise AssertionError("\n".join(own or done.stderr.splitlines()[-20:]))
    return [json.loads((output_dir / f"world{world}-rank{rank}.json").read_text()) for rank in range(world)]


def assert_in_step(first: dict, second: dict) -> None:
    assert first["world"] == second["world"] > 1
    for name in ("weights", "ledger", "state", "arrays", "waiting", "steps", "trained", "stop_reason"):
        assert first[name] == second[name], name


def test_fifty_steps_with_straddling_groups_and_uneven_rewards(tmp_path):
    first, second = run(tmp_path, "generate", 2)
    assert_in_step(first, second)
    assert first["steps"] == 50
    assert first["ledger"]["informative_groups"] == first["ledger"]["trained_groups"] == 150
    assert first["ledger"]["generated_groups"] > 200


@pytest.mark.parametrize("mode", ["replay", "predictive"])
def test_the_same_rollouts_give_the_groups_and_the_gradient_of_one_rank(tmp_path, mode):
    """Surplus and estimates included."""
    (alone,) = run(tmp_path, mode, 1)
    first, second = run(tmp_path, mode, 2)
    assert_in_step(first, second)
    for name in ("trained", "ledger", "arrays", "waiting", "carried"):
        assert first[name] == alone[name], name
    assert alone["carried"] > 0
    assert alone["ledger"]["generated_groups"] > alone["ledger"]["trained_groups"]
    # Six Adam steps in float32; the only difference is the order of summation
    torch.testing.assert_close(torch.tensor(first["weights"]), torch.tensor(alone["weights"]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.tensor(first["losses"]), torch.tensor(alone["losses"]), rtol=1e-4, atol=1e-5)


def test_shrinking_keeps_ranks_in_step(tmp_path):
    first, second = run(tmp_path, "shrink", 2)
    assert_in_step(first, second)
    assert first["steps"] == 6
    assert 0 < first["ledger"]["informative_groups"] < first["ledger"]["trained_groups"] == 18


def test_running_dry_ends_both_ranks_at_once(tmp_path):
    first, second = run(tmp_path, "dry", 2)
    assert_in_step(first, second)
    assert first["steps"] == 0
    assert "too hard" in first["stop_reason"]


def test_raise_raises_on_both_ranks(tmp_path):
    first, second = run(tmp_path, "raise", 2)
    assert "wanted were informative" in first["error"]
    assert first["error"] == second["error"]


ON_ONE_RANK_AND_MORE = [
    pytest.param("shrink-predictive", "8", (3,)),
    *(
        pytest.param(f"{policy}-{selection}", "200", (2, 3), marks=[pytest.mark.long, pytest.mark.timeout(900)])
        for policy in ("shrink", "raise")
        for selection in ("uniform", "predictive")
    ),
]


@pytest.mark.parametrize(("mode", "steps", "worlds"), ON_ONE_RANK_AND_MORE)
def test_straddling_groups_are_trained_as_on_one_rank(tmp_path, mode, steps, worlds):
    """Uneven rewards, surplus, both selections, batches that shrink and batches that are always filled."""
    (alone,) = run(tmp_path, mode, 1, steps, timeout=800)
    assert alone["steps"] == int(steps)
    assert alone["carried"] > 0
    if mode.startswith("shrink"):
        assert alone["ledger"]["informative_groups"] < alone["ledger"]["trained_groups"]
    for world in worlds:
        ranks = run(tmp_path, mode, world, steps, timeout=800)
        assert len(ranks) == ranks[0]["world"] == world
        for rank in ranks[1:]:
            assert_in_step(ranks[0], rank)
        for name in ("trained", "ledger", "arrays", "waiting", "carried", "steps"):
            assert ranks[0][name] == alone[name], name
        # The only difference is the order of summation
        together, one = torch.tensor(ranks[0]["weights"]), torch.tensor(alone["weights"])
        torch.testing.assert_close(together, one, rtol=1e-4, atol=1e-5)
