"""
Runs of two gloo ranks, without a stop and resumed; started by tests/test_two_ranks_resume.py through torchrun.

Usage: two_ranks_resume_worker.py OUTPUT_DIR
"""

import json
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from tests.resume_trainers import TRAINERS, pg_dpo
from tests.run_record import record_of, watch_batches
from tests.tiny import policy_dir


# Within a generation, and in the second epoch; a group of TRAINERS' layouts straddles the ranks
STEPS = {"DAPOTrainer": (3, 10), "PGGRPOTrainer": (5,), "PGDPOTrainer": (5,)}
EPOCHS = 2  # 16 optimizer steps of the trainers that generate, 8 of the other


def train(folder: Path, name: str, resume: bool | Path = False) -> dict:
    trainer = TRAINERS[name](folder, ranks=2, num_train_epochs=EPOCHS)
    batches = watch_batches(trainer)
    torch.rand(3 + dist.get_rank())
    trainer.train(resume_from_checkpoint=resume)
    return {**record_of(trainer), "batches": batches}


def main(output_dir: Path) -> None:
    results = {}
    for name, steps in STEPS.items():
        results[name] = {"whole": train(output_dir / name, name)}
        for step in steps:
            results[name][step] = train(output_dir / "resumed", name, output_dir / name / f"checkpoint-{step}")
    pg_dpo(output_dir / "pairs", ranks=2, dropout=0.0, dynamic_pairs=False, max_steps=6).train()
    # The newest is torn: both ranks take the one before
    torn = output_dir / "PGDPOTrainer" / "checkpoint-8" / "resume_state_rank1.json"
    if dist.get_rank() == 0:
        torn.unlink()
    dist.barrier()
    results["PGDPOTrainer"][7] = train(output_dir / "PGDPOTrainer", "PGDPOTrainer", True)
    # A node without the folder, of which the first rank knows nothing
    node = output_dir / ("PGDPOTrainer" if dist.get_rank() == 0 else "another node")
    try:
        pg_dpo(output_dir / "refused", ranks=2).train(resume_from_checkpoint=node / "checkpoint-5")
    except ValueError as error:
        results["refused"] = str(error)
    (output_dir / f"rank{dist.get_rank()}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    policy_dir()  # each rank its own: among several ranks the host saves on the first alone
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    main(Path(sys.argv[1]))
    dist.destroy_process_group()
