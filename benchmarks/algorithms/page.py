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
    "do nothing here. Small generations are noisier than large ones, and a run of a few thousand completions is short."
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
            f"![Held-out accuracy against generated tokens]({plots.name}/{picture.name})",
            _columns(summary, configs),
            tuning(summary["tuning"], labels, "at equal tokens")
            if "tuning" in summary
            else _rates(summary["learning_rates"], configs),
        ]
    )


def _intro(result: Mapping[str, Any]) -> str:
    summary = result["summary"]
    settings = summary["sizes"]
    in_full = "at equal tokens and at the end" if _has_budget(summary) else "at the end"
    return (
        f"{settings['steps']} optimizer updates of 64 completions, {LAYOUTS[result['benchmark']]}. Runs per row: "
        f"{len(result['seeds'])}, over warm starts: {len(settings['starts'])}. Accuracy is "
        f"avg@{2 * settings['samples']} on {settings['held_out']:,} held-out prompts {in_full}, and "
        f"avg@{settings['samples']} on {settings['curve_prompts']:,} of them on the way. Before training it is "
        f"{with_interval(summary['start'])}, with an entropy of {summary['start_entropy']:.3f} nats and "
        f"{summary['start_length']:.1f} tokens per completion."
    )


def _table(summary: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    header = [
        "method",
        f"accuracy at {summary['equal_tokens'] / 1000:,.0f}k tokens",
        "difference to GRPO there",
        "p (Holm)",
        *(["tokens there", "updates there"] if _has_budget(summary) else []),
        "accuracy at the end",
        "tokens at the end",
        "clipped",
        "entropy",
        "length",
    ]
    start, entropy, length = (summary[name] for name in ("start", "start_entropy", "start_length"))
    nothing = ["0k", "0"] if _has_budget(summary) else []
    start_row = ["warm start", with_interval(start), "-", "-", *nothing, "-", "0k", "-"]
    rows = [[*start_row, f"{entropy:.3f}", f"{length:.1f}"]]
    for name, row in summary["rows"].items():
        difference = row.get("difference")
        there = [f"{row['tokens_at_budget'] / 1000:,.0f}k", f"{row['steps_at_budget']:.0f}"] if nothing else []
        rows.append(
            [
                configs[name]["label"],
                with_interval(row["accuracy"]),
                with_interval(difference, "+") if difference else "-",
                p_value(difference["p_holm"]) if difference else "-",
                *there,
                with_interval(row["accuracy_end"]),
                f"{row['tokens'] / 1000:,.0f}k",
                f"{row['clip']['share']:.2%}" if row["clip"] else "-",
                f"{row['entropy']:.3f}",
                f"{row['length']:.1f}",
            ]
        )
    return table(header, rows)


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


def _has_budget(summary: Mapping[str, Any]) -> bool:
    """Whether runs were measured at the budget, which older results were not."""
    return summary["sizes"].get("token_budget") is not None


def _equal_tokens(summary: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    """Where the rows are compared."""
    offline = [row for row in summary["rows"].values() if row["is_offline"]]
    share = max((row["tokens"] / summary["equal_tokens"] for row in offline), default=None)
    if _has_budget(summary):
        text = (
            f"Equal tokens: every run is measured in full after the first generation that brings its tokens to "
            f"{summary['equal_tokens'] / 1000:,.0f}k, on the same prompts and samples as at the end."
        )
        short = [configs[name]["label"] for name, row in summary["rows"].items() if row["runs_short_of_budget"]]
        if short:
            text += f" Runs ended before that, and are read at their end: {'; '.join(short)}."
    else:
        text = "Equal tokens: those of the run that generated least; the other runs are read there by interpolation."
    if share is not None:
        text += (
            " The offline methods train on pairs of the warm start's samples, all generated before the first update: "
            f"{share:.0%} of the equal tokens, and they are read at their end."
        )
    return text


def _rates(rates: Mapping[str, Any], configs: Mapping[str, Any]) -> str:
    """Of results in which learning rates alone were chosen."""
    tried = sorted({rate for row in rates.values() for rate, _ in row["trials"]})
    rows = []
    for name, row in rates.items():
        accuracy = dict(map(tuple, row["trials"]))
        cells = [f"**{accuracy[rate]:.3f}**" if rate == row["chosen"] else f"{accuracy[rate]:.3f}" for rate in tried]
        rows.append([configs[name]["label"], *cells])
    at_edge = [
        configs[name]["label"]
        for name, row in rates.items()
        if len(tried) > 1 and row["chosen"] in (tried[0], tried[-1])
    ]
    text = (
        "Learning rates were chosen by one trial each: accuracy at the end on the tuning split, whose prompts are not "
        "among the held-out ones, with a seed that is not reported.\n\n"
        + table(["method", *map("{:g}".format, tried)], rows)
    )
    if at_edge:
        text += "\n\nThe choice lies at the edge of what was tried for: " + "; ".join(at_edge) + "."
    return text
