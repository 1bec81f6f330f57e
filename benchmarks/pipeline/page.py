"""The page's section on the pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import p_value, table, with_interval
from benchmarks.pipeline.plot import plot_pipeline
from benchmarks.pipeline.summary import RL
from benchmarks.report_tuning import tuning


LIMITS = (
    "The warm start learns the format of the answers from a teacher that is right on average, and an untrained policy "
    "of 20 tokens stumbles upon a rewarded answer about once in a thousand samples; a pretrained model knows far more "
    "before any of this. DeepSeek's argument for a cold start is about readability as much as about accuracy, which "
    "is not measured here. The reward model has the size of the policy and sees pairs of the warm start alone, so its "
    "scores are asked about answers it has never seen as the policy moves away."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Table and picture of one result."""
    summary = result["summary"]
    labels = {name: config["label"] for name, config in result["configs"].items()}
    picture = plots / f"pipeline-{result['preset']}.png"
    plot_pipeline(result, labels, picture)
    parts = [
        _intro(result),
        _table(summary, labels),
        f"![Held-out accuracy of every way by optimizer update]({plots.name}/{picture.name})",
    ]
    if "reward_model" in summary:
        model = summary["reward_model"]
        parts.append(
            f"The reward model was trained on {model['pairs']:,.0f} pairs of the warm start's samples "
            f"({model['pair_tokens'] / 1000:,.0f}k tokens, which the table leaves out) and puts "
            f"{model['reward_model_accuracy']:.1%} of held-out pairs in the right order."
        )
    if summary["tuning"]:
        parts.append(tuning(summary["tuning"], labels))
    return "\n\n".join(parts)


def _intro(result: Mapping[str, Any]) -> str:
    sizes = result["summary"]["sizes"]
    return (
        f"{sizes['steps']} updates of 64 completions, 8 on each generation. Runs per row: {len(result['seeds'])}, over "
        f"warm starts: {len(sizes['starts'])}. Accuracy is avg@{2 * sizes['samples']} on {sizes['held_out']:,} "
        "held-out prompts, by the verifier for every row. Differences are paired by warm start and seed: of GRPO after "
        "the warm start against the warm start alone, and of the other ways against it."
    )


def _table(summary: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    lines = [
        ["warm start alone", with_interval(summary["start"]), "-", "-", "0", "-", f"{summary['start_length']:.1f}"]
    ]
    for name in sorted(summary["rows"], key=lambda name: name != RL):
        row = summary["rows"][name]
        lines.append(
            [
                labels[name],
                with_interval(row["accuracy_end"]),
                with_interval(row["difference"], "+"),
                p_value(row["difference"]["p_holm"]),
                f"{row['tokens'] / 1000:,.0f}k",
                f"{row['entropy']:.3f}",
                f"{row['length']:.1f}",
            ]
        )
    header = ["way", "accuracy at the end", "difference", "p (Holm)", "tokens generated", "entropy", "length"]
    return table(header, lines)
