"""The page's section on the algorithms."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.algorithms.plot import plot_curves
from benchmarks.page.markdown import p_value, table, verdict, with_interval
from benchmarks.page.tuning import tuning


LIMITS = (
    "The policy has 0.3M parameters, answers have some 30 tokens and the verifier is exact, so nothing is said about "
    "long reasoning, noisy rewards or large models, where sequence ratios are far from 1 more often. A run is short: a "
    "method that is slower at first and better later would look worse. Settings come from a grid of few values with "
    "one trial each. One or two warm starts of one task say little about others; the intervals are over runs, and "
    "with so few of them percentile intervals are too narrow, which is why the p-values are of a t-test. The offline "
    "methods would take another round of sampling where the on-policy methods go on."
)
ON_POLICY_LIMITS = (
    "Nothing about large models or long answers. With one update on each generation the methods differ in how "
    "advantages are formed and averaged, and in what is sampled; the ratios and clips that tell them apart elsewhere "
    "do nothing here. Small generations are noisier than large ones, and a run of ten thousand completions is short."
)
# What comes of the completions of a generation
LAYOUTS = {
    "algorithms": "8 of them per generation of 64 prompts x 8 completions",
    "on_policy": "each on a generation of its own, of 8 prompts x 8 completions",
}


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Tables, verdict and picture of one result."""
    summary, configs = result["summary"], result["configs"]
    labels = {name: config["label"] for name, config in configs.items()}
    picture = plots / f"{result['benchmark']}-{result['preset']}.png"
    plot_curves(result, picture)
    return "\n\n".join(
        [
            _intro(result),
            _table(summary, configs),
            verdict(summary["rows"], labels, "GRPO at equal tokens"),
            verdict(summary["rows"], labels, "GRPO at equal updates, whatever they generated", "difference_end"),
            *_offline(summary["rows"], labels),
            f"![Held-out accuracy against generated tokens]({plots.name}/{picture.name})",
            _columns(summary, configs),
            tuning(summary["tuning"], labels, "at equal tokens"),
        ]
    )


def _intro(result: Mapping[str, Any]) -> str:
    summary = result["summary"]
    settings = summary["sizes"]
    return (
        f"{settings['steps']} optimizer updates of 64 completions, {LAYOUTS[result['benchmark']]}. Runs per row: "
        f"{len(result['seeds'])}, over warm starts: {len(settings['starts'])}. Accuracy is "
        f"avg@{2 * settings['samples']} on {settings['held_out']:,} held-out prompts at equal tokens and at the end, "
        f"and avg@{settings['samples']} on {settings['curve_prompts']:,} of them on the way. Before training it is "
        f"{with_interval(summary['start'])}, with an entropy of {summary['start_entropy']:.3f} nats and "
        f"{summary['start_length']:.1f} tokens per completion."
    )


def _table(summary: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    header = [
        "method",
        f"accuracy at {summary['equal_tokens'] / 1000:,.0f}k tokens",
        "difference to GRPO there",
        "p (Holm)",
        "tokens there",
        "updates there",
        "accuracy at the end",
        "difference to GRPO there",
        "p (Holm)",
        "tokens at the end",
        "clipped",
        "entropy",
        "length",
    ]
    start, entropy, length = (summary[name] for name in ("start", "start_entropy", "start_length"))
    nothing = ["-", "-", "0k", "0", "-", "-", "-", "0k", "-"]
    rows = [["warm start", with_interval(start), *nothing, f"{entropy:.3f}", f"{length:.1f}"]]
    for name, row in summary["rows"].items():
        rows.append(
            [
                configs[name]["label"],
                with_interval(row["accuracy"]),
                *_difference(row.get("difference")),
                f"{row['tokens_at_budget'] / 1000:,.0f}k",
                f"{row['steps_at_budget']:.0f}",
                with_interval(row["accuracy_end"]),
                *_difference(row.get("difference_end")),
                f"{row['tokens'] / 1000:,.0f}k",
                f"{row['clip']['share']:.2%}" if row["clip"] else "-",
                f"{row['entropy']:.3f}",
                f"{row['length']:.1f}",
            ]
        )
    return table(header, rows)


def _offline(rows: Mapping[str, Any], labels: Mapping[str, str]) -> list[str]:
    """Offline methods against DPO, on the same pairs."""
    found = {name: row["difference_offline"] for name, row in rows.items() if "difference_offline" in row}
    return [
        f"{labels[name]}, against DPO on the same pairs: {with_interval(each, '+')}, p (Holm) "
        f"{p_value(each['p_holm'])}."
        for name, each in found.items()
    ]


def _difference(difference: Mapping[str, Any] | None) -> list[str]:
    return [with_interval(difference, "+"), p_value(difference["p_holm"])] if difference else ["-", "-"]


def _columns(summary: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    text = _equal_tokens(summary, configs) + (
        " Differences are paired by warm start and seed; their intervals hold for one comparison, `p (Holm)` is of the "
        "paired t-test, corrected for all comparisons of the table. Clipped: share whose gradient the clip ended, of "
        "tokens for GRPO and DAPO, of completions elsewhere, over the second half of the run. Entropy: nats per token "
        "the policy samples at the end."
    )
    early = [
        configs[name]["label"] for name, row in summary["rows"].items() if row["steps"] < summary["sizes"]["steps"]
    ]
    if early:
        text += f" Runs ended before the last update, with no informative group left to train on: {'; '.join(early)}."
    return text


def _equal_tokens(summary: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    """Where the rows are compared."""
    offline = [row for row in summary["rows"].values() if row["is_offline"]]
    share = max((row["tokens"] / summary["equal_tokens"] for row in offline), default=None)
    text = (
        f"Equal tokens: every run is measured in full after the first generation that brings its tokens to "
        f"{summary['equal_tokens'] / 1000:,.0f}k, on the same prompts and samples as at the end."
    )
    short = [configs[name]["label"] for name, row in summary["rows"].items() if row["runs_short_of_budget"]]
    if short:
        text += f" Runs ended before that, and are read at their end: {'; '.join(short)}."
    if share is not None:
        text += (
            " The offline methods train on pairs of the warm start's samples, all generated before the first update: "
            f"{share:.0%} of the equal tokens, and they are read at their end."
        )
    return text
