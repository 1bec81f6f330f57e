"""The page's section on the ablation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.ablation.plot import plot_ladder
from benchmarks.ablation.rows import PUBLISHED, REPRODUCED
from benchmarks.ablation.techniques import techniques
from benchmarks.page.markdown import p_value, share, table, with_interval


LIMITS = (
    "A policy of 0.3M parameters that answers in some 35 tokens (of 38M and up to 192 tokens in results of the preset "
    "`gpu`); the published ladder is of 32B parameters and answers "
    "of up to 20,480 tokens, after thousands of updates. Here a repeated step is the only reason to run into the "
    "limit, so filtering and punishment act on one habit that the policy can drop, and nothing is said of long "
    "reasoning that needs its length. Entropy has little time to collapse in a few hundred updates. The order of the "
    "ladder matters: a rung shows what a technique adds to those below it, and the rows that leave one out what it "
    "adds to all others. Six runs tell apart differences of about .05."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Tables, activity and picture of one result."""
    summary = result["summary"]
    labels = {name: config["label"] for name, config in result["configs"].items()}
    picture = plots / f"ablation-{result['preset']}.png"
    plot_ladder(result, labels, picture)
    return "\n\n".join(
        [
            _intro(result),
            _accuracies(summary, labels),
            f"![Accuracy of each row beside the published ladder]({plots.name}/{picture.name})",
            "What the policies are like: entropy, length and truncated share of what they sample at the end; clipped "
            "share of tokens over the second half of the run.",
            _behaviour(summary, labels),
            techniques(summary["rows"]),
            *_at_equal_tokens(summary, labels),
            *_short(summary, labels),
        ]
    )


def _intro(result: Mapping[str, Any]) -> str:
    sizes, summary = result["summary"]["sizes"], result["summary"]
    samples = 2 * sizes["samples"]
    (rate,) = sizes["rates"]
    return (
        f"{sizes['steps']} optimizer updates of 32 completions, 16 on each generation of 64 prompts x 8 completions. "
        f"Runs per row: {len(result['seeds'])}, over warm starts: {len(sizes['starts'])}. Accuracy is avg@{samples} on "
        f"{sizes['held_out']:,} held-out prompts at the end; before training it is {with_interval(summary['start'])}, "
        f"with an entropy of {summary['start_entropy']:.3f} nats and {summary['start_length']:.1f} tokens per "
        "completion. Naive GRPO is TRL's trainer. Differences are at equal updates, paired by warm start and seed: "
        "each rung against the one below it, a row that leaves something out against DAPO (the rung with dynamic "
        "sampling). `p (Holm)` is of the paired t-test, corrected for all of them and those at equal tokens. One "
        f"learning rate for all rows, {rate:g}, as in the paper; no row was tuned. Published: AIME 2024 avg@32 of "
        "Qwen2.5-32B, by the paper and, in brackets, by an independent reproduction; only the order can be compared. "
        "The best published run has the soft punishment without the filter, as in the row marked so."
    )


def _accuracies(summary: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    samples = 2 * summary["sizes"]["samples"]
    header = ["row", "published", f"avg@{samples}", f"pass@{samples}", "difference", "p (Holm)"]
    header += [f"avg at {summary['equal_tokens'] / 1000:,.0f}k tokens", "tokens at the end"]
    lines = []
    for name, row in summary["rows"].items():
        difference = row.get("difference")
        lines.append(
            [
                labels[name],
                _published(name),
                with_interval(row["accuracy_end"]),
                with_interval(row["pass_end"]),
                with_interval(difference, "+") if difference else "-",
                p_value(difference["p_holm"]) if difference else "-",
                with_interval(row["accuracy"]),
                f"{row['tokens'] / 1000:,.0f}k",
            ]
        )
    return table(header, lines)


def _published(name: str) -> str:
    reproduced = f" ({REPRODUCED[name]})" if name in REPRODUCED else ""
    return f"{PUBLISHED[name]}{reproduced}" if name in PUBLISHED else "-"


def _behaviour(summary: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    solved = all(row["solved"] for row in summary["rows"].values())
    lines = [
        [
            labels[name],
            f"{row['entropy']:.3f}",
            f"{row['length']:.1f}",
            f"{row['truncated']:.1%}",
            *_clipped(row),
            *([" / ".join(f"{each:.0%}" for each in row["solved"].values())] if solved else []),
        ]
        for name, row in summary["rows"].items()
    ]
    header = ["row", "entropy", "length", "truncated", "clipped below", "clipped above"]
    if solved:
        header.append("prompts solved by none / some / all samples")
    return table(header, lines)


def _clipped(row: Mapping[str, Any]) -> list[str]:
    return [share(row["clip"].get(side)) for side in ("low", "high")]


def _at_equal_tokens(summary: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """The rungs that change how much is generated for an update, where all have generated as much."""
    lines = []
    for name, row in summary["rows"].items():
        if "difference_at_tokens" in row:
            difference = row["difference_at_tokens"]
            p = p_value(difference["p_holm"])
            against = labels[difference["against"]]
            lines.append(f"- {labels[name]}, against {against}: {with_interval(difference, '+')}, p (Holm) {p}")
    if not lines:
        return []
    tokens = f"{summary['equal_tokens'] / 1000:,.0f}k"
    return [
        "An update costs the last two rungs another number of completions than the others. At equal tokens, "
        f"after the generation that brings a run to {tokens}:\n\n" + "\n".join(lines)
    ]


def _short(summary: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Rows with runs that ended before they had generated the tokens at which rows are compared."""
    rows = [f"{labels[name]} ({row['runs_short_of_budget']})" for name, row in summary["rows"].items()]
    short = [text for text, row in zip(rows, summary["rows"].values(), strict=True) if row["runs_short_of_budget"]]
    tokens = f"{summary['equal_tokens'] / 1000:,.0f}k"
    return (
        [f"Runs that ended before {tokens} tokens, and are read there at their end: {'; '.join(short)}."]
        if short
        else []
    )
