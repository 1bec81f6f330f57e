"""The page's section on prompt selection in simulation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.markdown import table, with_interval


COLUMNS = {
    "generated_per_trained": "groups generated per informative group trained on",
    "generated_per_trained_second_half": "the same, second half",
    "uniform_accept_rate_end": "uniform accept rate at the end",
    "calibration_error": "calibration error",
    "coverage": "share of the pool seen",
    "milliseconds_per_draw": "ms per draw",
}
LIMITS = (
    "Pass rates are simulated: they drift as the scenario says and not as a policy's do, and nothing is trained, so it "
    "says what groups cost and nothing of accuracy. The constants were chosen on the scenario `saturated/slow`."
)


def body(result: Mapping[str, Any], plots: Path) -> str:
    """A table with a row for each scenario and way to choose."""
    summary = result["summary"]
    rows = [[f"`{name}`", *(with_interval(row[column]) for column in COLUMNS)] for name, row in summary.items()]
    intro = (
        "The selector is the trainer's own, the pool is simulated; 1.0 is the limit of the first two columns. `million` "
        "has 1,000,000 prompts; in `one_pass` no prompt is drawn twice, so that only offline pass rates can help. The "
        "rows under `settings` change one constant at a time."
    )
    return intro + "\n\n" + table(["scenario", *COLUMNS.values()], rows)
