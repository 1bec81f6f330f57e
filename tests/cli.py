"""The command line in this process, on a tiny model and tiny data in a directory."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from dapo_ext.playground.policy import build_policy, build_tokenizer
from pg_grpo.cli import main
from tests.tiny import SMALL


# Layer inputs are multiples of 64, as the 4-bit kernels need them
SMALL_64 = {**SMALL, "hidden_size": 64, "head_dim": 32, "intermediate_size": 128}
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
# What a test of a training command needs besides its subject
QUICK = [
    *("--use_cpu", "--bf16", "false", "--gradient_checkpointing", "false", "--report_to", "none"),
    *("--save_strategy", "no", "--logging_steps", "1", "--max_steps", "2"),
]
GROUPS = [
    *("--reward_funcs", "tests.cli.odd_sum", "--per_device_train_batch_size", "8", "--num_generations", "4"),
    *("--max_completion_length", "8"),
]


def odd_sum(completion_ids, **kwargs) -> list[float]:
    """1 for completions whose token ids have an odd sum, else 0: most groups are mixed, whatever their lengths."""
    return [float(sum(ids) % 2) for ids in completion_ids]


def save_policy(directory: Path) -> Path:
    """The one-layer policy and its tokenizer, with a chat template that adds nothing."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(directory)
    build_policy(0, **SMALL_64).save_pretrained(directory)
    return directory


def write_json_lines(path: Path, rows: Sequence[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(capsys, *arguments: str) -> str:
    """What the command says when it exits for these arguments."""
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    return capsys.readouterr().err
