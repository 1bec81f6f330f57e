"""
What full, LoRA and 4-bit training keep in memory, each measured in a process of its own, and how long they take.

Step times are of trainers that take turns in one process; the first step of each, which pays for allocations, is left
out.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import PrinterCallback
from trl import get_peft_config, get_quantization_config

from benchmarks.harness.parts import Parts
from benchmarks.harness.peak_size import peak_resident_bytes
from benchmarks.harness.results import interval, write_result
from benchmarks.harness.worlds import MEDIUM_POLICY
from benchmarks.overhead.turns import take_turns
from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground import correctness_reward, make_dataset
from dapo_ext.playground.policy import build_policy, build_tokenizer
from pg_grpo import PGGRPOConfig, PGGRPOTrainer
from pg_grpo.commands.options import ModelArguments


HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
POLICIES = {
    "quick": {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256, **HEADS},
    "full": MEDIUM_POLICY,
}
TIMED_STEPS = {"quick": 2, "full": 9}
KINDS = {
    "full": ModelArguments(),
    "lora": ModelArguments(use_peft=True, lora_target_modules=["all-linear"]),
    "qlora": ModelArguments(use_peft=True, load_in_4bit=True, lora_target_modules=["all-linear"]),
}
# DAPO has no reference; PG-GRPO's KL term has one, which full training holds a second copy for
TRAINERS = {"dapo": (DAPOTrainer, DAPOConfig), "pggrpo": (PGGRPOTrainer, PGGRPOConfig)}
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 16,
    "steps_per_generation": 1,
    "num_generations": 8,
    "max_completion_length": 32,
    "max_steps": 2,
    "dynamic_sampling": False,
    "soft_overlong_cache": 0,
    "scale_rewards": "none",
    "use_cpu": True,
    "bf16": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
}


def configs(preset: str) -> list[tuple[str, type, dict[str, Any]]]:
    """What a dry run builds; presets differ in their policies alone."""
    return [(name, config, SETTINGS) for name, (_, config) in TRAINERS.items()]


def run(preset: str, seeds: int, out: str, deadline: float | None = None) -> None:
    """Measure every kind of training and write the result; `seeds` are 1, for memory does not depend on them."""
    settings = {"policy": POLICIES[preset], "training": SETTINGS, "timed_steps": TIMED_STEPS[preset]}
    parts = Parts(Path(out).with_suffix(".parts"), settings, deadline)
    with tempfile.TemporaryDirectory() as directory:
        policy = build_policy(0, **POLICIES[preset])
        policy.save_pretrained(directory)
        build_tokenizer().save_pretrained(directory)
        kinds = [(name, kind) for name in TRAINERS for kind in KINDS]
        held = parts.measure({"-".join(each): partial(_in_its_own_process, directory, *each) for each in kinds})
        timed = {f"seconds-{name}": partial(step_seconds, directory, name, TIMED_STEPS[preset]) for name in TRAINERS}
        seconds = {name.removeprefix("seconds-"): each for name, each in parts.measure(timed).items()}
    rows = list(held.values())
    parameters = sum(each.numel() for each in policy.parameters())
    configs = {"policy": {**POLICIES[preset], "parameters": parameters}, "training": SETTINGS}
    summary = {f"{row['trainer']}/{row['kind']}": row["peak_mib"] for row in rows}
    ratios = {f"{name}/{kind}": ratio for name in TRAINERS for kind, ratio in over_full(seconds[name]).items()}
    print("\n".join(f"{name}: {ratio['median']:.2f} times full training's step" for name, ratio in ratios.items()))
    entry = {"seed": 0, "rows": rows, "step_seconds": seconds}
    summary = {**summary, "step_time_over_full": ratios}
    write_result(out, "memory", preset, configs, [entry], summary, parts.commits)


def _in_its_own_process(directory: str, trainer: str, kind: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.memory", directory, trainer, kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def step_seconds(path: str, trainer_name: str, steps: int) -> dict[str, list[float]]:
    """Seconds of so many steps of each kind of training, the first step not counted."""
    with tempfile.TemporaryDirectory() as directory:
        builders = {kind: partial(_build, path, trainer_name, kind, f"{directory}/{kind}", steps + 1) for kind in KINDS}
        return {kind: seconds[1:] for kind, seconds in take_turns(builders).items()}


def over_full(seconds: Mapping[str, Sequence[float]]) -> dict[str, dict[str, Any]]:
    """Median ratio of each other kind's step to full training's of the same turn, with its bootstrap interval."""
    return {
        kind: interval([ours / full for ours, full in zip(each, seconds["full"], strict=True)], np.median)
        for kind, each in seconds.items()
        if kind != "full"
    }


def measure(path: str, trainer_name: str, kind: str) -> dict[str, Any]:
    """
    Train two steps, and say in MiB what was held.

    Returns:
        `dict`: `weights`, the policy's, quantization constants included; `reference`, a second copy; `optimizer`, its
        state; `gradients`, of what is trained; `peak`, the process's largest size beyond what it had before the policy.
    """
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = _build(path, trainer_name, kind, output_dir, SETTINGS["max_steps"], [])
        trainer.train()
    peak = peak_resident_bytes() - before
    trained = [each for each in trainer.model.parameters() if each.requires_grad]
    state = [each for entry in trainer.optimizer.state.values() for each in entry.values()]
    held = {
        "weights": sum(map(_bytes, trainer.model.parameters())) + _quantization_bytes(trainer.model),
        "reference": 0 if trainer.ref_model is None else sum(map(_bytes, trainer.ref_model.parameters())),
        "gradients": sum(map(_bytes, trained)),
        "optimizer": sum(map(_bytes, filter(torch.is_tensor, state))),
        "peak": peak,
    }
    mib = {f"{name}_mib": round(size / 2**20, 1) for name, size in held.items()}
    return {"trainer": trainer_name, "kind": kind, "trained_parameters": sum(each.numel() for each in trained), **mib}


def _build(path: str, trainer_name: str, kind: str, output_dir: str, steps: int, callbacks: list):
    trainer_class, config_class = TRAINERS[trainer_name]
    model = KINDS[kind]
    trainer = trainer_class(
        model=path,
        reward_funcs=[correctness_reward, _spread],
        args=config_class(output_dir, **{**SETTINGS, "max_steps": steps}),
        train_dataset=make_dataset("train", 64),
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _spread(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """Differs within every group, so that every step has a gradient."""
    return [float(sum(ids) % 7) for ids in completion_ids]


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _quantization_bytes(model: torch.nn.Module) -> int:
    """Constants that bitsandbytes keeps beside 4-bit weights, with those of the second quantization."""
    total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            total += _bytes(state.absmax) + _bytes(state.code)
            state = state.state2
    return total


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
