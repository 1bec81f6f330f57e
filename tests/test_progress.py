"""The live display: what it counts, and how it words it."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from dapo_ext.reporting import progress
from dapo_ext.reporting.progress import ProgressDisplay
from tests.tiny import dapo_trainer
from tests.tiny_pairs import pg_dpo_trainer


def shown(trainer, **train) -> str:
    """What the display prints while the trainer trains."""
    out = io.StringIO()
    trainer.add_callback(ProgressDisplay(Console(file=out, width=200)))
    trainer.train(**train)
    return out.getvalue()


@pytest.mark.parametrize("steps_before", [0, 2])
def test_tokens_per_second_are_those_of_this_process(tmp_path, monkeypatch, steps_before):
    """With a clock that shows the step: the rate is the mean number of tokens of a step."""
    options = {"save_strategy": "steps", "save_steps": 2, "max_steps": 8}
    if steps_before:
        pg_dpo_trainer(tmp_path, **{**options, "max_steps": steps_before}).train()
    trainer = pg_dpo_trainer(tmp_path, **options)
    monkeypatch.setattr(progress, "time", SimpleNamespace(perf_counter=lambda: trainer.state.global_step))
    text = shown(trainer, resume_from_checkpoint=bool(steps_before))
    count = {each["step"]: each["num_tokens"] for each in trainer.state.log_history if "num_tokens" in each}
    begun = steps_before + 1 if steps_before else 0  # what a resumed run begins with is in its first log
    expected = (count[8] - count.get(begun, 0)) / (8 - begun)
    assert re.findall(r"([\d,]+) tokens/s", text)[-1] == f"{expected:,.0f}"


def test_the_reward_of_the_kept_groups_is_called_a_reward(tmp_path):
    assert re.search(r"reward of kept groups 0\.\d\d ", shown(dapo_trainer(tmp_path)))


def test_on_a_narrow_terminal_bar_steps_and_time_left_stay(tmp_path):
    out = io.StringIO()
    trainer = dapo_trainer(tmp_path, max_steps=3)
    trainer.add_callback(ProgressDisplay(Console(file=out, width=80, force_terminal=True, color_system=None)))
    trainer.train()
    lines = out.getvalue().splitlines()
    assert any(re.search(r"Training ━+ +3/3 0:00:\d\d 0:00:00", line) for line in lines)
    assert any("accept rate" in line for line in lines)
    assert any("tokens/s" in line for line in lines)
