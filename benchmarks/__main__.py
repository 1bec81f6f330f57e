"""`python -m benchmarks NAME --preset quick|full|gpu --seeds N --out FILE`, `report`, `check` and `evaluate`."""

import argparse
import importlib
import os
import sys
import time


# One thread per process is fastest for policies this small; has to be set before torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Name -> what it measures
MEASURED = {
    "ablation": "DAPO's techniques one on top of the other, and each left out of the whole",
    "algorithms": "REINFORCE, DPO, PG-DPO, GRPO, GSPO, DAPO and PG-GRPO from one warm start at equal generated tokens",
    "on_policy": "REINFORCE, GRPO, DAPO and PG-GRPO with one update on each generation",
    "rollouts": "what filling a batch costs under six policies, on two pools",
    "overhead": "step time and memory beside TRL's trainers",
    "memory": "memory of full, LoRA and 4-bit training",
    "passk": "pass@1 to pass@64 of the warm start, GRPO, DAPO and PG-GRPO",
    "pipeline": "warm start and RL, RL from scratch, and RL on a reward model",
}
WITH_OPTIONS_OF_THEIR_OWN = {
    "check": "whether quick results lie where the committed ones predict them",
    "evaluate": "avg@k and pass@k of a saved model on GSM8K- or AIME-shaped data",
}
WITHOUT_GPU_PRESET = {"memory"}
# Not finished, and nothing is wrong: the same command goes on
OUT_OF_TIME = 75


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the project claims.")
    commands = parser.add_subparsers(dest="name", required=True)
    for name, summary in MEASURED.items():
        command = commands.add_parser(name, help=summary, description=f"Measure {summary}.")
        presets = ["quick", "full"] if name in WITHOUT_GPU_PRESET else ["quick", "full", "gpu"]
        command.add_argument("--preset", default="quick", choices=presets)
        command.add_argument(
            "--seeds", type=int, default=1, help="runs of each row from each warm start (default: %(default)s)"
        )
        command.add_argument("--out", help="JSON file to write (default: runs/benchmarks/NAME-PRESET.json)")
        command.add_argument("--dry-run", action="store_true", help="build every configuration, train nothing")
        if name not in ("overhead", "memory"):
            command.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
            command.add_argument(
                "--warm-starts", default="runs/warm-starts", help="where warm starts are kept (default: %(default)s)"
            )
        if name == "passk":
            command.add_argument(
                "--tuning-from",
                help="result of `algorithms` whose choices are trained with (default: the committed one)",
            )
        command.add_argument(
            "--minutes",
            type=float,
            help="begin no run that would end later than this; the same command goes on (exit code 75)",
        )
    report = commands.add_parser("report", help="write RESULTS.md and its plots from the results")
    report.add_argument("--results", default="benchmarks/results", help="the JSON files (default: %(default)s)")
    report.add_argument("--out", default="benchmarks", help="where RESULTS.md goes (default: %(default)s)")
    for name, summary in WITH_OPTIONS_OF_THEIR_OWN.items():
        commands.add_parser(name, help=summary)
    return parser.parse_args()


def main() -> int:
    if sys.argv[1:2] and sys.argv[1] in WITH_OPTIONS_OF_THEIR_OWN:
        return importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
    arguments = vars(parse())
    name = arguments.pop("name")
    # Nothing else needs the network, so nothing should wait for it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if name == "report":
        importlib.import_module("benchmarks.report").run(**arguments)
        return 0
    if arguments.pop("dry_run"):
        importlib.import_module("benchmarks.harness.dry_run").dry_run(name, arguments["preset"])
        return 0
    return measure(name, **arguments)


def measure(name: str, preset: str, seeds: int, out: str | None, minutes: float | None = None, **options) -> int:
    """Run one benchmark; what is asked for is loaded alone, since torch and TRL take seconds."""
    out = out or f"runs/benchmarks/{name}-{preset}.json"
    module = importlib.import_module(f"benchmarks.{name}")
    from benchmarks.harness.stored_runs import OutOfTime
    from benchmarks.harness.tables import Campaign

    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        if name in ("memory", "overhead"):
            module.run(preset, seeds, out, deadline)
        else:
            of_its_own = {"tuning_from": options.pop("tuning_from")} if name == "passk" else {}
            module.run(preset, Campaign(out, seeds, deadline=deadline, **options), **of_its_own)
    except OutOfTime as stopped:
        print(stopped)
        return OUT_OF_TIME
    print(f"Written to {out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
