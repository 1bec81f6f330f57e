"""Versions, devices and what is supported here, for a bug report."""

import importlib.util
import os
from importlib.metadata import PackageNotFoundError, version

import torch
from trl.scripts.env import print_env

from dapo_ext.precision import bf16_obstacle, cpu_bf16_obstacle


PACKAGES = ("pg-grpo", "numpy", "tokenizers", "safetensors", "matplotlib", "rich")
TRACKERS = ("tensorboard", "wandb", "trackio")
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "HF_HUB_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "ONEDNN_MAX_CPU_ISA",
)


def run_env() -> None:
    """Print what TRL prints, then what matters to this project."""
    print_env()
    for name, value in describe().items():
        print(f"- {name}: {value}")


def describe() -> dict[str, str]:
    """What this project adds to TRL's list, by name."""
    set_variables = [f"{name}={os.environ[name]}" for name in VARIABLES if name in os.environ]
    return {
        **{f"{name} version": _version(name) for name in PACKAGES},
        "CPU": f"{torch.get_num_threads()} of {os.cpu_count()} threads, {torch.backends.cpu.get_cpu_capability()}",
        "bfloat16 on the CPU": _works(cpu_bf16_obstacle()),
        "bfloat16 where training runs": _works(bf16_obstacle(use_cpu=False)),
        "4-bit on the CPU": _works(_four_bit_obstacle("cpu")),
        **_on_the_accelerator(),
        "generation backends": "transformers, transformers with continuous batching"
        + (f", vLLM {_version('vllm')}" if importlib.util.find_spec("vllm") else "; vLLM is not installed"),
        "trackers": ", ".join(name for name in TRACKERS if importlib.util.find_spec(name)) or "none installed",
        "environment": ", ".join(set_variables) or "nothing set",
    }


def _on_the_accelerator() -> dict[str, str]:
    if not torch.accelerator.is_available():
        return {}
    device = torch.accelerator.current_accelerator()
    return {f"4-bit on {device}": _works(_four_bit_obstacle(str(device)))}


def _four_bit_obstacle(device: str) -> str | None:
    """Why nf4 does not work there: a small matrix is brought there and back."""
    from bitsandbytes import functional

    weight = torch.linspace(-1, 1, 4096, device=device).view(64, 64)
    try:
        restored = functional.dequantize_4bit(*functional.quantize_4bit(weight, quant_type="nf4"))
    except RuntimeError as error:
        return str(error).splitlines()[0]
    worst = (restored - weight).abs().max().item()
    return None if worst < 0.2 else f"a weight came back wrong by {worst:.2f}"


def _works(obstacle: str | None) -> str:
    return "works" if obstacle is None else f"does not work: {obstacle}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
