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
    "passk": "pass@1 to pass@64 of the warm start, GRPO, DAPO and PG-GRPO",
    "pipeline": "warm start and RL, RL from scratch, and RL on a reward model",
}
WITHOUT_GPU_PRESET = {"rollouts"}
# Not finished, and nothing is wrong: the same command goes on
OUT_OF_TIME = 75


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the project claims.")
    commands = parser.add_subparsers(dest="name", required=True)
    for name, summary in MEASURED.items():
        command = commands.add_parser(name, help=summary, description=f"Measure {summary}.")
        presets = ["quick", "full"] if name in WITHOUT_GPU_PRESET else ["quick", "full", "gpu"]
        command.add_argument("--preset", default="quick", choices=presets)
        command.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on (default: %(default)s)")
        command.add_argument("--out", help="JSON file to write (default: runs/benchmarks/NAME-PRESET.json)")
        command.add_argument("--dry-run", action="store_true", help="build every configuration, train nothing")
        if name != "overhead":
            command.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
            command.add_argument(
                "--warm-starts", default="runs/warm-starts", help="where warm starts are kept (default: %(default)s)"
            )
        if name != "rollouts":
            command.add_argument(
                "--minutes",
                type=float,
                help="begin no run that would end later than this; the same command goes on (exit code 75)",
            )
    report = commands.add_parser("report", help="write RESULTS.md and its plots from the results")
    report.add_argument("--results", default="benchmarks/results", help="the JSON files (default: %(default)s)")
    report.add_argument("--out", default="benchmarks", help="where RESULTS.md goes (default: %(default)s)")
    for name, summary in {
        "check": "whether quick results lie where the committed ones predict them",
        "evaluate": "avg@k and pass@k of a saved model on GSM8K- or AIME-shaped data",
    }.items():
        command = commands.add_parser(name, help=summary, add_help=False)
        command.add_argument("rest", nargs=argparse.REMAINDER)
    arguments, rest = parser.parse_known_args()
    if hasattr(arguments, "rest"):
        arguments.rest += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return arguments


def main() -> int:
    arguments = vars(parse())
    name = arguments.pop("name")
    if "rest" in arguments:
        return importlib.import_module(f"benchmarks.{name}").main(arguments["rest"])
    # Nothing else needs the network, so nothing should wait for it
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    if name == "report":
        importlib.import_module("benchmarks.report").run(**arguments)
        return 0
    if arguments.pop("dry_run"):
        importlib.import_module("benchmarks.dry_run").dry_run(name, arguments["preset"])
        return 0
    return measure(name, **arguments)


def measure(name: str, preset: str, seeds: int, out: str | None, minutes: float | None = None, **options) -> int:
    """Run one benchmark; what is asked for is loaded alone, since torch and TRL take seconds."""
    out = out or f"runs/benchmarks/{name}-{preset}.json"
    module = importlib.import_module(f"benchmarks.{name}")
    from benchmarks.playground_runs import OutOfTime
    from benchmarks.tables import Campaign

    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    try:
        if name == "rollouts":
            module.run(preset, seeds, out, **options)
        elif name == "overhead":
            module.run(preset, seeds, out, deadline)
        else:
            module.run(preset, Campaign(out, seeds, deadline=deadline, **options))
    except OutOfTime as stopped:
        print(stopped)
        return OUT_OF_TIME
    print(f"Written to {out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
