"""
Kill-and-resume campaign: runs that are killed by SIGKILL at random moments, resumed with `resume_from_checkpoint=True`
until they complete, and compared with the run that nobody killed: weights, optimizer, schedule, log (times apart),
random state, the sampler's state, and the micro-batches of every optimizer step, on every rank, to the bit.

Usage: python -m tests.kill_campaign [--kills 20] [--minutes 35] [--output FILE]

An interrupted campaign of the same commit goes on where it was; a complete one leaves nothing to go on with. The
uninterrupted runs and the killed ones are processes with different hash seeds.
"""

import argparse
import json
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness.results import commit_here, write_result
from dapo_ext.resume.checkpoint_choice import checkpoints_of
from dapo_ext.resume.checkpoint_manifest import find_damage
from tests.kill_server import PhaseFile
from tests.resume_trainers import LAYOUT, SAVING, TRAINERS


OUTPUT = Path(__file__).parents[1] / "benchmarks" / "results" / "kill_and_resume.json"
KILLS_PER_RUN = 5
# Where the next kill falls: at a moment of the clock, or soon after a phase begins
AIMS = ("any time", "saving", "refill", "within a generation", "any time")
AIMS_OF_PAIRS = ("any time", "saving", "scoring", "training", "any time")


class Server:
    """A process that starts the runs."""

    def __init__(self, hash_seed: int):
        environment = {
            **os.environ,
            "PYTHONHASHSEED": str(hash_seed),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.kill_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env=environment,
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        return self._process.stdout.readline().strip()

    def start(self, job: dict[str, Any]) -> list[int]:
        self._process.stdin.write(json.dumps(job) + "\n")
        return json.loads(self._answer())

    def has_ended(self) -> bool:
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def statuses(self) -> list[int]:
        return json.loads(self._answer())

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def kill(server: Server, pids: list[int], phases: PhaseFile, aim: str, rng: random.Random, seconds: float):
    """Kill a run's ranks, one of them first; return step and phase it was in, or `None` if it ended before."""
    first_step, delay = rng.randint(0, 5), rng.uniform(0.0, 0.7 * seconds)
    first_seen, deadline = None, float("inf")  # of the first step after the start
    while not server.has_ended():
        step, phase = phases.read()
        if first_seen is None and phase != "start":
            first_seen, deadline = step, time.monotonic() + delay
        in_time = aim == "any time" and time.monotonic() > deadline
        if in_time or (phase == aim and step >= first_seen + first_step):
            break
        time.sleep(0.0005)
    if aim != "any time":
        time.sleep(rng.uniform(0.0, 0.03))
    if server.has_ended():
        return None
    for pid in rng.sample(pids, len(pids)):
        os.kill(pid, signal.SIGKILL)
    return phases.read()


def run_chain(
    trainer: str, ranks: int, seed: int, kills: int, folder: Path, servers: tuple[Server, Server]
) -> list[dict[str, Any]]:
    """One run to its end without a kill and one with several; a row for each kill."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rng = random.Random(f"{trainer} {ranks} {seed}")

    def job(name: str, resume: bool) -> dict[str, Any]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        paths = {key: str(folder / f"{name}.{key}") for key in ("phase_file", "record", "log")}
        common = {"trainer": trainer, "ranks": ranks, "seed": seed, "output_dir": str(folder / name)}
        return {**common, **paths, "resume": resume, "port": str(port)}

    began = time.monotonic()
    servers[0].start(job("whole", resume=False))
    if any(servers[0].statuses()):
        raise RuntimeError(f"The uninterrupted run failed: see {folder / 'whole.log'}")
    seconds = time.monotonic() - began
    rows: list[dict[str, Any]] = []
    aims = AIMS_OF_PAIRS if trainer == "PGDPOTrainer" else AIMS
    phase_file = folder / "killed.phase_file"
    while True:
        whole = [path for path in checkpoints_of(folder / "killed") if find_damage(path) is None]
        torn = len(checkpoints_of(folder / "killed")) - len(whole)
        if rows:
            rows[-1] |= {"torn": torn, "resumed_from": int(whole[0].name.split("-")[1]) if whole else 0}
        phase_file.unlink(missing_ok=True)
        phases = PhaseFile(phase_file)
        pids = servers[1].start(job("killed", resume=bool(whole)))
        hit = None
        if len(rows) < kills:
            hit = kill(servers[1], pids, phases, aims[len(rows) % len(aims)], rng, seconds)
        statuses = servers[1].statuses()
        if hit is None:
            break
        step, phase = hit
        rows.append({"trainer": trainer, "ranks": ranks, "seed": seed, "step": step, "phase": phase})
    differing = ["it failed"] if any(statuses) else compare(folder, ranks)
    verdict = "identical" if not differing else f"DIFFERS in {', '.join(differing)}"
    return [{**row, "verdict": verdict} for row in rows]


def compare(folder: Path, ranks: int) -> list[str]:
    """What differs between the two runs."""
    differing = []
    for rank in range(ranks):
        whole, killed = (json.loads((folder / f"{name}.rank{rank}.json").read_text()) for name in ("whole", "killed"))
        # The last life knows the steps that it made itself
        there, here = whole.pop("batches"), killed.pop("batches")
        different = [step for step, batches in here.items() if batches != there.get(step)]
        differing += [f"rank {rank}'s {name}" for name in whole if whole[name] != killed[name]]
        differing += [f"rank {rank}'s batches of step {step}" for step in different]
    return differing


def campaign(kills: int, minutes: float, folder: Path) -> list[dict[str, Any]]:
    """Rows of all kills; those of finished runs are read from `folder`."""
    deadline = time.monotonic() + 60 * minutes
    done_file = folder / "rows.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    commit = commit_here()
    rows = [json.loads(line) for line in done_file.read_text().splitlines()] if done_file.exists() else []
    rows = [row for row in rows if row.get("commit") == commit]
    servers = (Server(1), Server(2))
    for ranks in (1, 2):
        for trainer in TRAINERS:
            seed = 0
            while sum(r["trainer"] == trainer and r["ranks"] == ranks for r in rows) < kills:
                seed += 1
                if any((r["trainer"], r["ranks"], r["seed"]) == (trainer, ranks, seed) for r in rows):
                    continue
                if time.monotonic() > deadline:
                    raise SystemExit(f"{minutes:g} minutes are over after {len(rows)} kills; start it again to go on.")
                missing = kills - sum(r["trainer"] == trainer and r["ranks"] == ranks for r in rows)
                fresh = run_chain(
                    trainer, ranks, seed, min(KILLS_PER_RUN, missing), folder / f"{trainer}-{ranks}-{seed}", servers
                )
                for row in fresh:
                    row["commit"] = commit
                    print(line_of(row), flush=True)
                rows += fresh
                with done_file.open("a") as file:
                    file.write("".join(json.dumps(row) + "\n" for row in fresh))
    for server in servers:
        server.close()
    done_file.unlink()
    return rows


HEADER = (
    f"{'trainer':<14} {'ranks':>5} {'seed':>4} {'step':>4}  {'phase':<20} {'torn':>4} {'resumed from':>12}  verdict"
)


def line_of(row: dict[str, Any]) -> str:
    return (
        f"{row['trainer']:<14} {row['ranks']:>5} {row['seed']:>4} {row['step']:>4}  {row['phase']:<20} "
        f"{row['torn']:>4} {row['resumed_from']:>12}  {row['verdict']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20, help="kills per trainer and number of ranks")
    parser.add_argument("--minutes", type=float, default=35.0, help="begin no further run after this time")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the result goes")
    parser.add_argument("--folder", type=Path, default=Path("runs/kill_and_resume"), help="where the runs go")
    arguments = parser.parse_args()
    print(HEADER)
    began = time.monotonic()
    rows = campaign(arguments.kills, arguments.minutes, arguments.folder)
    lost = [row for row in rows if row["verdict"] != "identical"]
    summary = {
        "kills": len(rows),
        "lost": len(lost),
        "torn_checkpoints": sum(row["torn"] for row in rows),
        "phases": {phase: sum(row["phase"] == phase for row in rows) for phase in sorted({r["phase"] for r in rows})},
        "seconds": round(time.monotonic() - began),
    }
    write_result(arguments.output, "kill_and_resume", "campaign", {"layout": LAYOUT, "saving": SAVING}, rows, summary)
    print(f"{summary['kills']} kills, {summary['lost']} runs that differ afterwards. {arguments.output}")
    if lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
