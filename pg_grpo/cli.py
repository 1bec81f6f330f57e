"""The command `pg-grpo`."""

import argparse
import logging
import os
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run what it names."""
    parser = argparse.ArgumentParser(prog="pg-grpo", description="DAPO and PG-GRPO on Hugging Face TRL.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="train a small policy with DAPO, offline, in a few minutes")
    demo.add_argument("--output-dir", default="runs/demo", help="where the results go (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the whole run (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if arguments.command == "demo":
        # Nothing in the demo needs the network, so nothing should wait for it
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # the demo uses no 4-bit kernels it could miss
        from dapo_ext.demo import run_demo

        run_demo(arguments.output_dir, arguments.seed)


if __name__ == "__main__":
    main()
