"""How the overhead grows: with completion length, group size, batch, pool and ranks."""

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.overhead.memory import peak_memory
from benchmarks.overhead.rows import FEATURES, PROMPTS, SAME_WORK, TRL, Row, of_length
from benchmarks.overhead.turns import step_seconds


DYNAMIC = {TRL: SAME_WORK[TRL], "dapo": SAME_WORK["replay"]}
SELECTING = {TRL: FEATURES[TRL], "dapo": FEATURES["predictive"]}


@dataclass(frozen=True)
class Point:
    """One place on one axis of growth."""

    axis: str
    value: int
    changes: Mapping[str, Any] = field(default_factory=dict)  # to the layout
    prompts: int = PROMPTS
    ranks: int = 1

    @property
    def name(self) -> str:
        return f"{self.axis.split(',')[0]} {self.value}".replace(" ", "-")


def points(lengths, groups, batches, pools, ranks) -> list[Point]:
    """The places that are measured, each with all else as in the layout."""
    return list(
        itertools.chain(
            (Point("completion length", n, of_length(n)) for n in lengths),
            (Point("completions per prompt", n, {"num_generations": n}) for n in groups),
            (Point("completions per micro-batch", n, {"per_device_train_batch_size": n}) for n in batches),
            (Point("prompts in the pool, predictive selection", n, prompts=n) for n in pools),
            (Point("ranks", n, ranks=n) for n in ranks),
        )
    )


def measure(point: Point, layout: Mapping[str, Any], seed: int, steps: int, policy=None) -> dict[str, Any]:
    """Step seconds of TRL's trainer and of `DAPOTrainer` at a point."""
    layout = {**layout, **point.changes}
    if point.ranks > 1:
        seconds = _over_ranks(point.ranks, layout, seed, steps, policy)
    else:
        seconds = step_seconds(_rows(point), layout, seed, steps, policy, point.prompts)
    return {"axis": point.axis, "value": point.value, "step_seconds": seconds}


def measure_memory(point: Point, layout: Mapping[str, Any], seed: int, policy=None) -> dict[str, float]:
    """Peak memory of both at a point with one rank, see [`~benchmarks.overhead.memory.peak_memory`]."""
    return peak_memory(_rows(point), {**layout, **point.changes}, seed, policy, point.prompts)


def _rows(point: Point) -> dict[str, Row]:
    return SELECTING if point.axis.startswith("prompts") else DYNAMIC


def _over_ranks(ranks: int, layout: Mapping[str, Any], seed: int, steps: int, policy) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "seconds.json"
        asked = json.dumps({"layout": dict(layout), "seed": seed, "steps": steps, "policy": policy, "out": str(out)})
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={ranks}"]
        subprocess.run([*launcher, "-m", "benchmarks.overhead.rank", asked], check=True)
        return json.loads(out.read_text())
