"""A picture and a table of a run, from the logs it left."""

import json
import re
import sys
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from dapo_ext.reporting.plots import (
    ACCEPT_RATE,
    BLUE,
    CLIPPING,
    ENTROPY,
    GREEN,
    GREY,
    LENGTH,
    ORANGE,
    Panel,
    plot_panels,
)
from dapo_ext.reporting.run_log import METRICS_FILE, read_metrics


STATE_FILE = "trainer_state.json"
PLAIN_WIDTH = 120  # of the table in a file, where there is no terminal to ask
LAST_SHARE = 0.1  # of a metric's records, over which its end is averaged

PANELS = (
    Panel(
        "Reward (training prompts)",
        (
            ("reward", "all rewards, everything generated", GREY),
            ("dynamic_sampling/reward_all", "task, everything generated", BLUE),
            ("dynamic_sampling/reward_kept", "task, kept groups only", ORANGE),
        ),
    ),
    ACCEPT_RATE,
    ENTROPY,
    LENGTH,
    CLIPPING,
    Panel("KL to the reference (nats per token)", (("kl", None, BLUE),)),
    Panel(
        "Preference ratio",
        (
            ("pg_grpo/ratio_mean", "mean", BLUE),
            ("pg_grpo/ratio_min", "smallest", GREY),
            ("pg_grpo/ratio_max", "largest", GREY),
        ),
    ),
    Panel(
        "Share clipped by the preference ratio",
        (("pg_grpo/clipped_high", "above", ORANGE), ("pg_grpo/clipped_low", "below", BLUE)),
    ),
    Panel("Accuracy of the implicit reward", (("rewards/accuracies", None, BLUE),)),
    Panel(
        "Implicit reward",
        (("rewards/chosen", "chosen", GREEN), ("rewards/rejected", "rejected", ORANGE)),
    ),
    Panel(
        "Ratio to the reference",
        (("pg_dpo/chosen_ratio_mean", "chosen", GREEN), ("pg_dpo/rejected_ratio_mean", "rejected", ORANGE)),
    ),
    Panel(
        "Share of the pairs' sides that are done",
        (("pg_dpo/chosen_clipped_high", "chosen", GREEN), ("pg_dpo/rejected_clipped_low", "rejected", ORANGE)),
    ),
    Panel("Accept rate of scored pairs", (("dynamic_pairs/accept_rate", None, BLUE),)),
    Panel(
        "Evaluation",
        (
            ("eval_reward", "reward", BLUE),
            ("eval_rewards/accuracies", "accuracy of the implicit reward", ORANGE),
        ),
    ),
    Panel("Loss", (("loss", "training", BLUE), ("eval_loss", "evaluation", ORANGE))),
    Panel("Gradient norm", (("grad_norm", None, BLUE),)),
)


def run_report(run_dir: str, output: str | None = None) -> None:
    """
    Plot a run's metrics and print them as a table.

    Args:
        run_dir (`str`):
            Output directory of a run, or one of its checkpoints.
        output (`str`, *optional*):
            PNG file to write; by default `report.png` in `run_dir`.
    """
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    try:
        records, source = read_run(Path(run_dir))
        picture = Path(output) if output else Path(run_dir) / "report.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        plot_panels(records, PANELS, picture)
    except (ValueError, OSError) as error:
        sys.exit(f"pg-grpo report: error: {error}")
    steps = max(record["step"] for record in records)
    console.print(f"{source}, {steps} optimizer steps", highlight=False, soft_wrap=True)
    console.print(_table(records))
    console.print(f"The picture is {picture}", highlight=False, soft_wrap=True)


def read_run(run_dir: Path) -> tuple[list[dict[str, Any]], Path]:
    """
    The records of a run, each with its `step`, and the file they came from.

    Args:
        run_dir (`Path`):
            A directory with `metrics.jsonl`, or with `trainer_state.json`, or with checkpoints that have the latter;
            the first of these that there is.

    Raises:
        ValueError: when there is none of them, or nothing was logged.
    """
    if not run_dir.is_dir():
        raise ValueError(f"there is no directory {run_dir}.")
    checkpoints = [path for path in run_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    checkpoints.sort(key=lambda path: int(path.name.removeprefix("checkpoint-")), reverse=True)
    candidates = [run_dir / METRICS_FILE, *(path / STATE_FILE for path in [run_dir, *checkpoints])]
    source = next((path for path in candidates if path.is_file()), None)
    if source is None:
        raise ValueError(f"{run_dir} has neither {METRICS_FILE} nor a checkpoint with {STATE_FILE}.")
    is_state = source.name == STATE_FILE
    records = json.loads(source.read_text())["log_history"] if is_state else read_metrics(source)
    if not records:
        raise ValueError(f"nothing was logged in {source}; a run logs every `logging_steps` steps.")
    return records, source


def summarise(records: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """First value, mean over the last tenth of the values, smallest and largest, of every logged number."""
    series: dict[str, list[float]] = {}
    for record in records:
        for name, value in record.items():
            if isinstance(value, int | float) and name not in ("step", "epoch"):
                series.setdefault(name, []).append(value)
    summary = {}
    for name, values in sorted(series.items()):
        last = values[-max(1, int(LAST_SHARE * len(values))) :]
        summary[name] = {
            "first": values[0],
            "last": sum(last) / len(last),
            "smallest": min(values),
            "largest": max(values),
        }
    return summary


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric", overflow="fold")
    columns = ("first", "last", "smallest", "largest")
    for column in columns:
        table.add_column("last tenth" if column == "last" else column, justify="right")
    for name, row in summarise(records).items():
        table.add_row(name, *(f"{row[column]:.4g}" for column in columns))
    return table
