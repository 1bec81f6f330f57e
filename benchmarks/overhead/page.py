"""The page's section on step time and memory."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.overhead.plot import plot_growth
from benchmarks.overhead.rows import FEATURES, PAIRS, SAME_WORK, Row
from benchmarks.page.markdown import table, with_interval
from dapo_ext.playground import build_policy


LIMITS = (
    "A policy of 0.3M parameters makes a step of milliseconds, so bookkeeping weighs more here than beside a model "
    "whose step takes seconds; the policy of results of the preset `gpu` has 38M. Equal trainers of one process differ "
    "by some percent from start to start (TRL's beside itself by .05 at most in the committed runs of both presets), "
    "which intervals over the steps of one start do not show: a ratio within that of 1 is no difference. Memory is of "
    "larger policies, of 24M parameters on a CPU, where a process's largest size depends on its allocator too and "
    "differs from run to run (the two rows of TRL show by how much). vLLM, more than two processes and the memory of "
    "several ranks are not measured. What refilling itself costs is not overhead but generation, and depends on the "
    "prompts."
)
SAME_WORK_INTRO = (
    "Seconds per optimizer step, generation included, of trainers that train on the same completions to the bit. "
    "The trainers take turns; a ratio is formed within each of {steps} steps, and its median is shown."
)
NOISE_INTRO = (
    "TRL's trainer takes part twice, and the order is drawn anew for every turn: what its second row differs from 1 is "
    "what equal trainers differ by."
)
MEMORY_INTRO = (
    "Peak memory is of a policy of {million:.0f}M parameters at steps of one micro-batch, each trainer in a process of "
    "its own: what the GPU held, "
    "or on a CPU what the process held beyond what it had before the policy was built."
)
FEATURES_INTRO = (
    "With one feature on, at a learning rate of 0, so that every row generates and trains on completions of the same "
    "lengths whatever it would learn; {steps} steps. Weights by entropy need a forward pass that nothing else asks for."
)
PAIRS_INTRO = "On preference pairs, {steps} steps:"


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Tables of the step times and of memory, and the picture of their growth."""
    entries, summary = result["seeds"], result["summary"]
    memory = [entry["memory"] for entry in entries if "memory" in entry]
    intro = " ".join([SAME_WORK_INTRO, *([NOISE_INTRO] if "again_over_trl" in summary else [])])
    parts = _times(entries, "step_seconds", summary, SAME_WORK, intro, memory)
    if memory:
        parts.append(MEMORY_INTRO.format(million=_parameters(summary["sizes"]["memory_policy"]) / 1e6))
    if "features" in summary:
        parts += _times(entries, "feature_seconds", summary["features"], FEATURES, FEATURES_INTRO, memory)
        pair_memory = [entry["pair_memory"] for entry in entries if "pair_memory" in entry]
        parts += _times(entries, "pair_seconds", summary["pairs"], PAIRS, PAIRS_INTRO, pair_memory)
    if summary.get("growth"):
        picture = plots / f"overhead-{result['preset']}.png"
        plot_growth(summary["growth"], picture)
        parts += [
            "How the ratio of `DAPOTrainer` with dynamic sampling (nothing to refill) to TRL's trainer grows, with one "
            "thing changed at a time:",
            f"![Step time against TRL's by length, group, batch, pool and ranks]({plots.name}/{picture.name})",
            _growth(summary["growth"]),
        ]
    return "\n\n".join(parts)


def _times(entries, seconds: str, summary, rows_of: Mapping[str, Row], intro: str, memory: Sequence) -> list[str]:
    """An introduction and a table."""
    header = ["trainer", "median seconds", "ratio to TRL", *(["peak memory, MiB"] if memory else [])]
    rows = []
    for name in entries[0][seconds]:
        ratio = summary.get(f"{name}_over_trl")
        median = statistics.median(second for entry in entries for second in entry[seconds][name])
        rows.append([rows_of[name].label, f"{median:.3f}", with_interval(ratio) if ratio else "1"])
        if memory:
            rows[-1].append(f"{statistics.median(each[name] for each in memory):,.0f}")
    steps = sum(len(entry[seconds]["trl"]) for entry in entries)
    return [intro.format(steps=steps), table(header, rows)]


def _growth(growth: Sequence[Mapping[str, Any]]) -> str:
    has_memory = any("trl_peak_mib" in place for place in growth)
    header = ["what is changed", "to", "TRL's median seconds", "ratio to TRL"]
    header += ["TRL's peak, MiB", "`DAPOTrainer`'s peak, MiB", "beyond TRL's"] if has_memory else []
    rows = [
        [
            place["axis"],
            f"{place['value']:,}",
            f"{place['trl_seconds']:.3f}",
            with_interval(place["dapo_over_trl"]),
            *(_peaks(place) if has_memory else []),
        ]
        for place in growth
    ]
    return table(header, rows)


def _peaks(place: Mapping[str, Any]) -> list[str]:
    if "trl_peak_mib" not in place:
        return ["-", "-", "-"]
    trl, dapo = place["trl_peak_mib"], place["dapo_peak_mib"]
    return [f"{trl:,.0f}", f"{dapo:,.0f}", f"{dapo / trl - 1:+.1%}"]


def _parameters(policy: Mapping[str, int]) -> int:
    return sum(each.numel() for each in build_policy(0, **policy).parameters())
