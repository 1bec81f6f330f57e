"""A rank that fails alone ends all of them within seconds, with its traceback, whatever started the processes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest


WORKER = Path(__file__).with_name("failing_rank_worker.py")
# From the failure to the end of the last process; the collectives of the worker would wait for 1800
SECONDS = 30
LAUNCHERS = {
    "torchrun": ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
    "accelerate": [
        *("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
        *("--mixed_precision", "no"),
    ],
}
pytestmark = [pytest.mark.two_ranks, pytest.mark.xdist_group("two ranks")]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parent.parent), **changes}


def launch(launcher: str, output_dir: Path, where: str) -> tuple[list[int], list[str]]:
    """Exit codes and what was printed, of the launcher or of each of two processes that nothing watches over."""
    command = [sys.executable, *LAUNCHERS.get(launcher, []), str(WORKER), str(output_dir), where]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    if launcher in LAUNCHERS:
        places = [environment(MASTER_PORT=port)]
        command[-3:-3] = ["--main_process_port", port] if launcher == "accelerate" else []
    else:
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        places = [environment(RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(2)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = [subprocess.Popen(command, env=place, **pipes) for place in places]
    try:
        printed = [process.communicate(timeout=200)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], printed


@pytest.mark.parametrize(
    ("launcher", "where"),
    [
        ("by hand", "async"),
        ("torchrun", "reward"),
        *(
            pytest.param(launcher, where, marks=pytest.mark.long)
            for launcher, where in [
                ("accelerate", "reward"),
                ("by hand", "reward"),
                *((launcher, where) for launcher in [*LAUNCHERS, "by hand"] for where in ("construction", "callback")),
                ("by hand", "column"),
                ("by hand", "weights"),
                *((launcher, "pairs") for launcher in [*LAUNCHERS, "by hand"]),
            ]
        ),
    ],
)
def test_all_ranks_end_with_the_traceback_of_the_one_that_failed(tmp_path, launcher, where):
    codes, printed = launch(launcher, tmp_path, where)
    ended = time.time() - float((tmp_path / "failed_at").read_text())
    print(f"{launcher:10s} {where:12s} all ranks ended {ended:.1f} s after the failure")
    assert all(codes)
    assert ended < SECONDS
    text = "\n".join(printed)
    if where == "construction":
        assert "`train_dataset='0 rows'` is refused" in text
        return
    if where == "column":
        assert all("values to the column 'length' with `log_extra`" in each for each in printed)
        return
    assert "ConnectionError: the reward server of rank 1 is gone" in text
    assert "failing_rank_worker.py" in text
    if where == "weights":
        assert "Raised while tokens were weighted on rank 1, after step 2." in text
        assert "Rank 0 ends because the weighting of tokens failed on rank 1" in printed[0]
    if where in ("reward", "async"):
        name = "failing_reward" if where == "reward" else "failing_async_reward"
        assert f"Raised by the reward function '{name}' on rank 1, after step " in text
        # Every rank says why: the one that did not fail as well
        assert "Rank 0 ends because a reward function failed on rank 1" in printed[0]
