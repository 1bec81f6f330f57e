"""The page's section on pass@k."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from benchmarks.algorithm_plot import STYLES
from benchmarks.markdown import LEVEL, table, with_interval
from benchmarks.method_runs import START
from benchmarks.report_tuning import tuning


LIMITS = (
    "The answer is one of ten digits, so that guessing alone reaches pass@64 near 1 for a policy that spreads its "
    "guesses: what large k shows here is whether a policy still varies its answers, less whether it can reason. "
    "A policy of 0.3M parameters, one task, a few hundred updates; few prompts are out of reach of 64 samples."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Table, reading and picture of one result."""
    summary = result["summary"]
    labels = {START: "warm start", **{name: config["label"] for name, config in result["configs"].items()}}
    picture = plots / f"passk-{result['preset']}.png"
    _plot(summary["rows"], labels, picture)
    sizes = summary["sizes_of_k"]
    lines = [
        [labels[name], *(with_interval(row["pass_at"][k]) for k in sizes)] for name, row in summary["rows"].items()
    ]
    parts = [
        f"pass@k of {summary['sizes']['held_out']:,} held-out prompts by {sizes[-1]} completions each, temperature 1. "
        f"{summary['sizes']['steps']} updates, 8 per generation; runs per row: {_runs(result)}, over warm starts: "
        f"{len(summary['sizes']['starts'])}.",
        table(["policy", *(f"pass@{k}" for k in sizes)], lines),
        _reading(summary, labels),
        f"![pass@k and its difference to the warm start]({plots.name}/{picture.name})",
    ]
    if summary["tuning"]:
        parts.append(tuning(summary["tuning"], labels))
    return "\n\n".join(parts)


def _runs(result: Mapping[str, Any]) -> int:
    return max(
        row["pass_at"][result["summary"]["sizes_of_k"][0]]["values"] for row in result["summary"]["rows"].values()
    )


def _reading(summary: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """For each trained row, the k at which it is above and below the others once all comparisons are counted."""
    lines = []
    for name, row in summary["rows"].items():
        for key, other in (("over_start", "the warm start"), ("over_grpo", "GRPO")):
            if key in row:
                above, below = _told_apart(row[key], 1), _told_apart(row[key], -1)
                lines.append(f"- {labels[name]} against {other}: above at k = {above}; below at k = {below}")
    head = f"Paired by warm start and seed, Holm's correction over all rows and k of a comparison, level {LEVEL}:"
    return "\n".join([head, "", *lines])


def _told_apart(differences: Mapping[str, Any], sign: int) -> str:
    ks = [k for k, d in differences.items() if d["p_holm"] is not None and d["p_holm"] < LEVEL and d["mean"] * sign > 0]
    return ", ".join(ks) or "none"


def _plot(rows: Mapping[str, Any], labels: Mapping[str, str], path: Path) -> None:
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 9}):
        figure = Figure(figsize=(11, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, row in rows.items():
            colour, marker = ("#999999", "x") if name == START else STYLES[name]
            _draw(left, row["pass_at"], colour, marker, labels[name])
            if "over_start" in row:
                _draw(right, row["over_start"], colour, marker, labels[name])
        right.axhline(0, color="#999999", linewidth=1)
        for axis, label in ((left, "pass@k"), (right, "pass@k minus the warm start's")):
            axis.set_xscale("log", base=2)
            axis.set(xlabel="k (completions per prompt)", ylabel=f"{label} (95 % interval)")
            axis.xaxis.set_major_formatter("{x:g}")
        left.legend(frameon=False, loc="lower right")
        figure.savefig(path, dpi=120)


def _draw(axis, values: Mapping[str, Any], colour: str, marker: str, label: str) -> None:
    ks, means = [int(k) for k in values], [value["mean"] for value in values.values()]
    low, high = zip(*(value["interval"] for value in values.values()), strict=True)
    axis.plot(ks, means, color=colour, marker=marker, markersize=4, linewidth=1.4, label=label)
    axis.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
