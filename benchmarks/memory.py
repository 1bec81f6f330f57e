"""What full, LoRA and 4-bit training keep in memory, each measured in a process of its own."""

import json
import resource
import subprocess
import sys
import tempfile
from typing import Any

import psutil
import torch
from trl import get_peft_config, get_quantization_config

from benchmarks.results import write_result
from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.playground import correctness_reward, make_dataset
from dapo_ext.playground.policy import build_policy, build_tokenizer
from pg_grpo import PGGRPOConfig, PGGRPOTrainer
from pg_grpo.commands.options import ModelArguments


# A larger policy of the playground's kind; layer inputs are multiples of 64, as the 4-bit kernels need them
SIZES = {
    "quick": {"hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256},
    "full": {"hidden_size": 512, "num_hidden_layers": 8, "intermediate_size": 1536},
}
HEADS = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
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


def run(preset: str, seeds: int, out: str) -> None:
    """Measure every kind of training and write the result; `seeds` are 1, for memory does not depend on them."""
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        policy = build_policy(0, **SIZES[preset], **HEADS)
        policy.save_pretrained(directory)
        build_tokenizer().save_pretrained(directory)
        for trainer in TRAINERS:
            for kind in KINDS:
                command = [sys.executable, "-m", "benchmarks.memory", directory, trainer, kind]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout.splitlines()[-1]))
                print(rows[-1], flush=True)
    parameters = sum(each.numel() for each in policy.parameters())
    configs = {"policy": {**SIZES[preset], **HEADS, "parameters": parameters}, "training": SETTINGS}
    summary = {f"{row['trainer']}/{row['kind']}": row["peak_mib"] for row in rows}
    write_result(out, "memory", preset, configs, [{"seed": 0, "rows": rows}], summary)


def measure(path: str, trainer_name: str, kind: str) -> dict[str, Any]:
    """
    Train two steps, and say in MiB what was held.

    Returns:
        `dict`: `weights`, the policy's, quantization constants included; `reference`, a second copy; `optimizer`, its
        state; `gradients`, of what is trained; `peak`, the process's largest size beyond what it had before the policy.
    """
    trainer_class, config_class = TRAINERS[trainer_name]
    model = KINDS[kind]
    before = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as output_dir:
        trainer = trainer_class(
            model=path,
            reward_funcs=[correctness_reward, _spread],
            args=config_class(output_dir, **SETTINGS),
            train_dataset=make_dataset("train", 64),
            quantization_config=get_quantization_config(model),
            peft_config=get_peft_config(model),
        )
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
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
