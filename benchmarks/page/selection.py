"""The page's section on the simulation of prompt selection."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.page.markdown import table, with_interval


COLUMNS = {
    "generated_per_trained": "generated per trained group",
    "generated_per_trained_second_half": "second half of the run",
    "share_of_limit": "share of the limit",
    "calibration_error": "calibration error",
    "coverage": "coverage",
    "effective_prompts_trained": "effective prompts trained",
    "milliseconds_per_draw": "ms per draw",
}
LIMITS = (
    "Pass rates drift here as they are told to; a policy's do not. The simulation shows what choosing prompts costs and"
    " saves in rollouts, and nothing of what is learned from the chosen ones: see the section on filling a batch."
)
INTRO = (
    "The trainer's selector on pools of simulated pass rates, a third of the prompts in between, the rest solved or "
    "hopeless; the limit is one generated group for each trained one. `saturated` has 2,048 prompts trained four times "
    "over, `million` 1,000,000 trained up to once, and in `one_pass` no prompt is drawn twice, so that nothing can be "
    "known of it but its offline pass rate. Calibration error is the mean distance of predicted and realised accept "
    "rate over ten bins; effective prompts are the exponential of the entropy of what was trained on. Below, under "
    "`settings`, the constants of the selector, one changed at a time, on `saturated/slow`."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """Table of all scenarios."""
    rows = []
    for scenario, summary in result["summary"].items():
        figures = [with_interval(summary[name]) for name in list(COLUMNS)[:2]]
        figures += [f"{summary[name]['mean']:.3f}" for name in list(COLUMNS)[2:4]]
        figures += [f"{summary['coverage']['mean']:.2f}", f"{summary['effective_prompts_trained']['mean']:,.0f}"]
        rows.append([f"`{scenario}`", *figures, f"{summary['milliseconds_per_draw']['mean']:.2f}"])
    return INTRO + "\n\n" + table(["scenario", *COLUMNS.values()], rows)
