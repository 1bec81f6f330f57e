"""`python -m benchmarks NAME --preset quick|full --seeds N --out FILE`, and `python -m benchmarks report`."""

import argparse
import importlib
import os


# One thread per process is fastest for policies this small; has to be set before torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

TIMED = {"overhead": "step time beside TRL's trainer", "memory": "memory of full, LoRA and 4-bit training"}
TRAINED = {
    "algorithms": "GRPO, GSPO, DAPO, PG-GRPO, DPO and PG-DPO from one warm start at equal generated tokens",
    "rollouts": "what filling a batch costs under six policies, on two pools",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the project claims.")
    commands = parser.add_subparsers(dest="name", required=True)
    for name, summary in {**TIMED, **TRAINED}.items():
        command = commands.add_parser(name, help=summary, description=f"Measure {summary}.")
        presets = ["quick", "small", "full"] if name == "algorithms" else ["quick", "full"]
        command.add_argument("--preset", default="quick", choices=presets)
        command.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on (default: %(default)s)")
        command.add_argument("--out", required=True, help="JSON file to write")
        if name in TRAINED:
            command.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
            command.add_argument(
                "--warm-starts", default="runs/warm-starts", help="where warm starts are kept (default: %(default)s)"
            )
    report = commands.add_parser("report", help="write RESULTS.md and its plots from the results")
    report.add_argument("--results", default="benchmarks/results", help="the JSON files (default: %(default)s)")
    report.add_argument("--out", default="benchmarks", help="where RESULTS.md goes (default: %(default)s)")
    arguments = vars(parser.parse_args())
    # What is asked for is loaded alone: torch and TRL take seconds, and the report needs neither
    importlib.import_module(f"benchmarks.{arguments.pop('name')}").run(**arguments)


if __name__ == "__main__":
    main()
