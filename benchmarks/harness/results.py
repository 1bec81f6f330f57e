"""The form of a result: what was measured, with what, on what, and each seed's values."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch


LIBRARIES = ("pg-grpo", "trl", "transformers", "torch", "accelerate", "datasets", "peft", "bitsandbytes", "math-verify")
RESAMPLES = 10_000


def interval(values: Sequence[float], statistic=np.mean) -> dict[str, Any]:
    """Statistic of some values with its 95 % percentile bootstrap interval: `{"mean": m, "interval": [low, high]}`."""
    array = np.asarray(values, dtype=float)
    draws = np.random.default_rng(0).choice(array, (RESAMPLES, len(array)))
    low, high = np.quantile(statistic(draws, axis=1), [0.025, 0.975])
    return {statistic.__name__: float(statistic(array)), "interval": [float(low), float(high)], "values": len(array)}


def write_result(
    path: str | Path,
    benchmark: str,
    preset: str,
    configs: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    commits: Sequence[str | None] = (),
) -> dict[str, Any]:
    """
    Write one benchmark's result as JSON.

    Args:
        path (`str` or `Path`):
            File to write.
        benchmark (`str`), preset (`str`):
            What was run.
        configs (`Mapping[str, Mapping]`):
            Configuration of each row of the table.
        seeds (`Sequence[Mapping]`):
            One entry per seed, with everything that was measured.
        summary (`Mapping`):
            What the entries come to.
        commits (`Sequence[str | None]`, *optional*):
            Commits of the runs it is made of, of which each is named once; by default the one at hand.

    Returns:
        `dict`: what was written.
    """
    result = {
        "benchmark": benchmark,
        "preset": preset,
        "configs": configs,
        "commit": ", ".join(dict.fromkeys(str(commit or "unknown") for commit in commits)) or commit_here(),
        "versions": {name: _version(name) for name in LIBRARIES},
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
            "threads": torch.get_num_threads(),
        },
        "seeds": seeds,
        "summary": summary,
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
    return result


def _version(library: str) -> str | None:
    """What is installed; None for a library that is not, such as the project itself when run from a bare checkout."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _cpu_model() -> str | None:
    """What the processor calls itself; None where the system does not say."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), None)


def commit_here() -> str | None:
    """The commit that is measured, marked when the tree held more than it; None outside a checkout."""
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=here, capture_output=True, text=True
    )
    return described.stdout.strip() or None
