"""The page's section on the pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.algorithms.plot import mean_curve
from benchmarks.page.markdown import p_value, table, with_interval
from benchmarks.page.tuning import tuning
from benchmarks.pipeline import scalar_head
from benchmarks.pipeline.plot import plot_pipeline
from benchmarks.pipeline.reward_model import EPOCHS
from benchmarks.pipeline.summary import LONG, RL, SCRATCH, WITH_REWARD_MODEL


LIMITS = (
    "The warm start learns the format of the answers from a teacher that is right on average, and an untrained policy "
    "of 20 tokens stumbles upon a rewarded answer about once in a thousand samples; a pretrained model knows far more "
    "before any of this. DeepSeek's argument for a cold start is about readability as much as about accuracy, which "
    "is not measured here. The reward model has the size of the policy (0.3M parameters; 38M in results of the preset "
    "`gpu`) and sees pairs of the warm start alone, so its scores are asked about answers it has never seen as the "
    "policy moves away. It scores every step that an answer writes down, which suits sums; that a scalar head fails "
    "here says nothing of one on a pretrained model."
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
        parts.append(f"{_reward_model(summary['reward_model'])} {_turn(result)}".rstrip())
    if summary["tuning"]:
        parts.append(tuning(summary["tuning"], labels))
        if LONG in labels:
            parts.append(f"{labels[LONG]}: at the learning rate of {labels[SCRATCH]}, without trials of its own.")
    return "\n\n".join(parts)


def _intro(result: Mapping[str, Any]) -> str:
    sizes = result["summary"]["sizes"]
    return (
        f"{sizes['steps']} updates of 64 completions, 8 on each generation. Runs per row: {len(result['seeds'])}, over "
        f"warm starts: {len(sizes['starts'])}. Accuracy is avg@{2 * sizes['samples']} on {sizes['held_out']:,} "
        f"held-out prompts at the end and avg@{sizes['samples']} on {sizes['curve_prompts']:,} of them on the way, by "
        "the verifier for every row. Differences are paired by warm start and seed: of GRPO after "
        "the warm start against the warm start alone, and of the other ways against it. Tokens are those that a policy "
        "sampled; the warm start itself learns from completions that a teacher wrote, which are not among them."
    )


def _reward_model(model: Mapping[str, float]) -> str:
    pairs, tokens = f"{model['pairs']:,.0f}", f"{model['pair_tokens'] / 1000:,.0f}k"
    return (
        f"The reward model is DPO's implicit reward at beta = 1, trained for {EPOCHS} epochs on {pairs} pairs of the "
        f"warm start's samples, whose {tokens} tokens are among those of its row (not those of the held-out pairs, "
        f"which judge it as an evaluation does). It puts {model['reward_model_accuracy']:.1%} of held-out pairs in the "
        "right order, a little optimistic, since the number of epochs had been chosen on some of them. "
        "The usual reward model, a scalar read out at EOS (TRL's `RewardTrainer`, "
        f"{scalar_head.EPOCHS} epochs on the same pairs), is not used: it puts {model['scalar_head_accuracy']:.1%} of "
        f"held-out pairs in the right order, where chance is 50 %, and {model['scalar_head_training_accuracy']:.1%} of "
        "its own in the last epoch."
    )


def _turn(result: Mapping[str, Any]) -> str:
    """Where the policy ceased to solve more sums, if that was before the end."""
    curves = [entry["rows"][WITH_REWARD_MODEL]["points"] for entry in result["seeds"]]
    steps, accuracies = mean_curve(curves, "step")
    best = int(np.argmax(accuracies))
    if best in (0, len(steps) - 1):
        return ""
    sizes = result["summary"]["sizes"]
    return (
        f"By the verifier its row is best at update {steps[best]:.0f} ({accuracies[best]:.3f} in the mean, avg@"
        f"{sizes['samples']} on {sizes['curve_prompts']:,} of the prompts) and at {accuracies[-1]:.3f} at the end. It "
        "is trained on the model's scores throughout; whether these still rose was not recorded."
    )


def _table(summary: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    lines = [
        [
            "warm start alone",
            with_interval(summary["start"]),
            *("-", "-", "0k"),
            f"{summary['start_entropy']:.3f}",
            f"{summary['start_length']:.1f}",
        ]
    ]
    for name in sorted(summary["rows"], key=lambda name: name != RL):
        row = summary["rows"][name]
        tokens = row["tokens"] + (summary["reward_model"]["pair_tokens"] if name == WITH_REWARD_MODEL else 0)
        lines.append(
            [
                labels[name],
                with_interval(row["accuracy_end"]),
                with_interval(row["difference"], "+"),
                p_value(row["difference"]["p_holm"]),
                f"{tokens / 1000:,.0f}k",
                f"{row['entropy']:.3f}",
                f"{row['length']:.1f}",
            ]
        )
    header = ["way", "accuracy at the end", "difference", "p (Holm)", "tokens generated", "entropy", "length"]
    return table(header, lines)
