"""The page's section on pass@k."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.algorithms.plot import STYLES
from benchmarks.harness.long_sums import shortest_long_sum
from benchmarks.harness.method_runs import START
from benchmarks.harness.worlds import WORLDS
from benchmarks.page.markdown import LEVEL, table, with_interval
from benchmarks.passk.summary import TESTED
from dapo_ext.reporting.plots import picture_style


START_STYLE = ("#666666", "x")


LIMITS = (
    "The answer is one of ten digits, so that guessing alone reaches pass@64 near 1 for a policy that spreads its "
    "guesses: what large k shows here is whether a policy still varies its answers, less whether it can reason. Of all "
    "prompts few are out of reach of 64 samples; of the long sums there are more, but hundreds of prompts instead of a "
    "thousand. A policy of 0.3M parameters (38M in results of the preset `gpu`), one task, a few hundred updates."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Tables, reading and picture of one result."""
    summary = result["summary"]
    labels = {START: "warm start", **{name: config["label"] for name, config in result["configs"].items()}}
    picture = plots / f"passk-{result['preset']}.png"
    has_long = "pass_at_long" in summary["rows"][START]
    shortest = shortest_long_sum(WORLDS[summary["sizes"]["world"]].max_terms)
    _plot(summary["rows"], labels, picture, shortest if has_long else None)
    parts = [
        f"pass@k of {summary['sizes']['held_out']:,} held-out prompts by {summary['sizes_of_k'][-1]} completions each, "
        f"temperature 1. {summary['sizes']['steps']} updates, 8 per generation; runs per row: {_runs(result)}, over "
        f"warm starts: {len(summary['sizes']['starts'])}. Tokens: generated in training. Entropy: nats per token the "
        "policy samples at the end. Rows have made equal updates, and not generated equally much. " + _settings(result),
        _table(summary, labels, "pass_at"),
        _reading(summary, labels),
    ]
    if has_long:
        parts += [
            f"**The sums of {shortest} terms and more alone**, which are the ones a policy may not be able to solve at "
            "all: where training widens what it can do, it shows here at large k.",
            _table(summary, labels, "pass_at_long"),
            _reading(summary, labels, "_long"),
        ]
    parts.append(f"![pass@k and its difference to the warm start]({plots.name}/{picture.name})")
    return "\n\n".join(parts)


def _settings(result: Mapping[str, Any]) -> str:
    """What each row was trained with, and where that comes from."""
    if not (source := result["summary"]["tuned_by"]):
        return "Nothing was tuned."
    names = ("learning_rate", "epsilon", "epsilon_high", "pg_beta")
    chosen = [
        f"{config['label']} " + ", ".join(f"{name} {config[name]:g}" for name in names if config.get(name) is not None)
        for config in result["configs"].values()
    ]
    return f"Settings are those that the trials of `{source}` chose: {'; '.join(chosen)}."


def _table(summary: Mapping[str, Any], labels: Mapping[str, str], question: str) -> str:
    sizes = summary["sizes_of_k"]
    lines = [
        [
            labels[name],
            *(with_interval(row[question][k]) for k in sizes),
            f"{row['tokens'] / 1000:,.0f}k",
            f"{row['entropy']:.3f}",
        ]
        for name, row in summary["rows"].items()
    ]
    return table(["policy", *(f"pass@{k}" for k in sizes), "tokens", "entropy"], lines)


def _runs(result: Mapping[str, Any]) -> int:
    return max(
        row["pass_at"][result["summary"]["sizes_of_k"][0]]["values"] for row in result["summary"]["rows"].values()
    )


def _reading(summary: Mapping[str, Any], labels: Mapping[str, str], ending: str = "") -> str:
    """For each trained row, the k at which it is above and below the others once all comparisons are counted."""
    lines, tested = [], []
    for name, row in summary["rows"].items():
        for key, other in (("over_start", "the warm start"), ("over_grpo", "GRPO")):
            if key + ending in row:
                by_k = row[key + ending]
                tested = [k for k in by_k if k in TESTED]
                above, below = _told_apart(by_k, 1), _told_apart(by_k, -1)
                lines.append(f"- {labels[name]} against {other}: above at k = {above}; below at k = {below}")
    head = (
        f"Paired by warm start and seed, tested at k = {', '.join(tested)} alone, Holm's correction over all rows and "
        f"these k, for each of the two comparisons by itself, level {LEVEL}:"
    )
    return "\n".join([head, "", *lines])


def _told_apart(differences: Mapping[str, Any], sign: int) -> str:
    ks = [k for k, d in differences.items() if d["p_holm"] is not None and d["p_holm"] < LEVEL and d["mean"] * sign > 0]
    return ", ".join(ks) or "none"


def _plot(rows: Mapping[str, Any], labels: Mapping[str, str], path: Path, shortest_long: int | None) -> None:
    questions = [
        ("", "all prompts"),
        *([("_long", f"sums of {shortest_long} terms and more")] if shortest_long else []),
    ]
    with picture_style():
        figure = Figure(figsize=(11, 0.4 + 3.8 * len(questions)), layout="constrained")
        panels = figure.subplots(len(questions), 2, sharex=True, squeeze=False)
        for (left, right), (ending, title) in zip(panels, questions, strict=True):
            for name, row in rows.items():
                style = START_STYLE if name == START else STYLES[name]
                _draw(left, row[f"pass_at{ending}"], style, labels[name])
                if name != START:
                    _draw(right, row[f"over_start{ending}"], style, labels[name])
            right.axhline(0, color="#666666", linewidth=1)
            for axis, label in ((left, "pass@k"), (right, "pass@k minus the warm start's")):
                axis.set_xscale("log", base=2)
                axis.set(title=title, ylabel=f"{label} (95 % interval)")
                axis.xaxis.set_major_formatter("{x:g}")
        for axis in panels[-1]:
            axis.set_xlabel("k (completions per prompt)")
        panels[0, 0].legend(frameon=False, loc="lower right")
        figure.savefig(path, dpi=120)


def _draw(axis, values: Mapping[str, Any], style: tuple[str, str], label: str) -> None:
    colour, marker = style
    ks, means = [int(k) for k in values], [value["mean"] for value in values.values()]
    low, high = zip(*(value["interval"] for value in values.values()), strict=True)
    axis.plot(ks, means, color=colour, marker=marker, markersize=4, linewidth=1.4, label=label)
    axis.fill_between(ks, low, high, color=colour, alpha=0.15, linewidth=0)
