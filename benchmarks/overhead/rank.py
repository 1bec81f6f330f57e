"""One rank of several, started by `torchrun`: the trainers take turns on all of them in the same order."""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from benchmarks.overhead.growth import DYNAMIC
from benchmarks.overhead.turns import step_seconds


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    # Before the trainers make one of their own: a hang is to end
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=timedelta(minutes=5))
    seconds = step_seconds(DYNAMIC, asked["layout"], asked["seed"], asked["steps"], asked["policy"])
    if dist.get_rank() == 0:
        Path(asked["out"]).write_text(json.dumps(seconds))
    dist.barrier()
    dist.destroy_process_group()
