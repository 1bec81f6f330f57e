"""bfloat16 that would kill the process is found out in another one; elsewhere what TRL takes is taken."""

import logging

import pytest
from trl import GRPOConfig

from dapo_ext import DAPOConfig, precision
from pg_grpo import PGDPOConfig


KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"


@pytest.fixture
def trial(monkeypatch):
    """Runs another trial than the real one, and counts nothing that another test has found out."""

    def set_trial(source: str) -> None:
        precision.cpu_bf16_obstacle.cache_clear()
        monkeypatch.setattr(precision, "TRIAL", source)

    yield set_trial
    precision.cpu_bf16_obstacle.cache_clear()


@pytest.mark.parametrize(
    ("source", "obstacle"),
    [
        ("", None),
        (KILLED, "a trial product in bfloat16 was ended by signal 4 on this CPU"),
        ("raise RuntimeError('no kernel')", "failed on this CPU (RuntimeError: no kernel)"),
    ],
)
def test_a_trial_in_another_process_says_what_became_of_it(trial, source, obstacle):
    trial(source)
    found = precision.cpu_bf16_obstacle()
    assert found == obstacle if obstacle is None else found.endswith(obstacle)


def test_a_trial_that_hangs_is_given_up(trial, monkeypatch):
    monkeypatch.setattr(precision, "TRIAL_SECONDS", 0.5)
    trial("import time; time.sleep(60)")
    assert "more than 0.5 seconds" in precision.cpu_bf16_obstacle()


def test_it_is_tried_once_and_only_where_it_matters(trial, monkeypatch):
    trial("")
    runs = []
    real = precision.subprocess.run
    monkeypatch.setattr(precision.subprocess, "run", lambda *args, **kwargs: runs.append(1) or real(*args, **kwargs))
    for bf16, fp16, use_cpu in ((False, False, True), (None, True, True), (None, False, False), (True, False, False)):
        assert precision.settle_cpu_precision(bf16, fp16, use_cpu) is bf16
    assert not runs
    assert precision.settle_cpu_precision(None, False, True) is None
    assert precision.settle_cpu_precision(True, False, True) is True
    assert len(runs) == 1


@pytest.mark.parametrize("config", [DAPOConfig, PGDPOConfig])
def test_configurations_keep_clear_of_what_would_kill_the_process(trial, tmp_path, caplog, config):
    trial(KILLED)
    with caplog.at_level(logging.WARNING):
        assert config(str(tmp_path), use_cpu=True).bf16 is False
    assert "bf16=False is taken, so that training runs in float32" in caplog.text
    with pytest.raises(ValueError, match=r"`bf16=True` is refused: .* signal 4 .* Remedy: set bf16=False"):
        config(str(tmp_path), use_cpu=True, bf16=True)


def test_configurations_follow_trl_where_bfloat16_works(trial, tmp_path, caplog):
    trial("")
    expected = GRPOConfig(str(tmp_path), use_cpu=True).bf16
    with caplog.at_level(logging.WARNING):
        assert DAPOConfig(str(tmp_path), use_cpu=True).bf16 is expected is True
    assert not caplog.text
