"""The command `pg-grpo`; `python -m pg_grpo.cli` is the same."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence


TRAINING = {
    "dapo": "train with DAPOTrainer; takes what `trl grpo` takes, and more",
    "pggrpo": "train with PGGRPOTrainer; takes what `trl grpo` takes, and more",
    "pgdpo": "train on preference pairs with PGDPOTrainer; takes what `trl dpo` takes, and more",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the command line and run what it names."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and argv[0] in TRAINING:  # these have a parser of their own, made from TRL's dataclasses
        from .commands.training import run

        run(argv[0], argv[1:])
        return
    arguments = _parser().parse_args(argv)
    if arguments.command == "demo":
        # Nothing in the demo needs the network, so nothing should wait for it
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # the demo uses no 4-bit kernels it could miss
        from dapo_ext.demo import run_demo

        run_demo(arguments.output_dir, arguments.seed)
    elif arguments.command == "report":
        from .commands.report import run_report

        run_report(arguments.run_dir, arguments.output)
    elif arguments.command == "env":
        from .commands.environment import run_env

        run_env()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pg-grpo",
        description="DAPO and PG-GRPO on Hugging Face TRL.",
        epilog="`pg-grpo dapo --help` lists every option of a training command.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, summary in TRAINING.items():
        commands.add_parser(name, help=summary, add_help=False)
    demo = commands.add_parser("demo", help="train a small policy with DAPO, offline, in a few minutes")
    demo.add_argument("--output-dir", default="runs/demo", help="where the results go (default: %(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="seed of the whole run (default: %(default)s)")
    report = commands.add_parser("report", help="plots and a table of a run, from its logs")
    report.add_argument("run_dir", help="output directory of a run, or one of its checkpoints")
    report.add_argument("--output", default=None, help="picture to write (default: RUN_DIR/report.png)")
    commands.add_parser("env", help="versions, devices and what is supported, for a bug report")
    return parser


if __name__ == "__main__":
    main()
