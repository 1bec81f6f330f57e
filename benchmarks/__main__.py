"""`python -m benchmarks NAME --preset quick|full --seeds N --out FILE`."""

import argparse
import os


# One thread per process is fastest for policies this small; has to be set before torch is loaded
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from benchmarks import overhead


BENCHMARKS = {"overhead": overhead}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure what the project claims.")
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--preset", default="quick", choices=["quick", "full"])
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0 on (default: %(default)s)")
    parser.add_argument("--out", required=True, help="JSON file to write")
    arguments = parser.parse_args()
    BENCHMARKS[arguments.name].run(arguments.preset, arguments.seeds, arguments.out)


if __name__ == "__main__":
    main()
