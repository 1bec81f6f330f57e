"""
Starts the processes that `tests.kill_campaign` kills. It has imported everything, so that each starts by a fork.

Usage: kill_server.py, with one job as JSON per line of the standard input; answers with the process ids, and once they
have ended with their exit statuses.
"""

import json
import mmap
import os
import struct
import sys
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers

from tests.resume_trainers import TRAINERS
from tests.run_record import record_of, watch_batches
from tests.tiny import policy_dir


PHASES = ("start", "generation", "refill", "scoring", "training", "within a generation", "saving", "end")


class PhaseFile:
    """Optimizer step and phase of a run, where whoever kills it can read them."""

    FORM = struct.Struct("ii")

    def __init__(self, path: Path):
        if not path.exists():
            path.write_bytes(self.FORM.pack(0, 0))
        with path.open("rb+") as file:
            self._memory = mmap.mmap(file.fileno(), self.FORM.size)

    def write(self, step: int, phase: str) -> None:
        self._memory[:] = self.FORM.pack(step, PHASES.index(phase))

    def read(self) -> tuple[int, str]:
        step, phase = self.FORM.unpack(self._memory[:])
        return step, PHASES[phase]


def mark_phases(trainer, phases: PhaseFile) -> None:
    """Let the trainer's methods say what they are about to do."""

    def mark(name: str, phase_of) -> None:
        method = getattr(trainer, name)

        def marked(*args, **kwargs):
            phases.write(trainer.state.global_step, phase_of())
            return method(*args, **kwargs)

        setattr(trainer, name, marked)

    mark("_save_checkpoint", lambda: "saving")
    if hasattr(trainer, "_roll_out"):
        every = trainer.args.steps_per_generation * trainer.num_iterations
        rounds = {}

        def round_of() -> str:
            rounds[trainer._step] = rounds.get(trainer._step, 0) + 1
            return "generation" if rounds[trainer._step] == 1 else "refill"

        mark("_roll_out", round_of)
        mark("_compute_loss", lambda: "within a generation" if trainer._step % every else "training")
    else:
        mark("_score", lambda: "scoring")
        mark("_compute_loss", lambda: "training")


def work(job: dict[str, Any], rank: int) -> None:
    ranks = job["ranks"]
    if ranks > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(ranks),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=job["port"],
        )
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    output_dir = Path(job["output_dir"])
    trainer = TRAINERS[job["trainer"]](output_dir, ranks, seed=job["seed"], save_steps=2, save_total_limit=2)
    batches = watch_batches(trainer)
    if rank == 0:
        mark_phases(trainer, PhaseFile(Path(job["phase_file"])))
    trainer.train(resume_from_checkpoint=job["resume"] or None)
    result = {**record_of(trainer), "batches": batches}
    Path(job["record"]).with_suffix(f".rank{rank}.json").write_text(json.dumps(result))
    if ranks > 1:
        dist.destroy_process_group()


def start(job: dict[str, Any], rank: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        work(job, rank)
        status = 0
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    policy_dir()  # here, since nobody clears up after a process that is killed
    print("ready", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        pids = [start(job, rank) for rank in range(job["ranks"])]
        print(json.dumps(pids), flush=True)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]), flush=True)


if __name__ == "__main__":
    main()
