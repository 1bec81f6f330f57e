"""The demo, shortened: everything it says it writes is there and belongs together."""

import functools
import json

from transformers import AutoModelForCausalLM

from dapo_ext import demo
from dapo_ext.playground import warm_start
from dapo_ext.reporting.run_log import read_metrics


def test_the_demo_writes_a_model_its_metrics_a_picture_and_a_summary(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "warm_start", functools.partial(warm_start, steps=150, max_terms=2))
    monkeypatch.setattr(demo, "HELD_OUT_PROMPTS", 64)
    summary = demo.run_demo(tmp_path, max_steps=8)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["optimizer_steps"] == 8
    assert summary["trained_groups"] == 128
    assert summary["generated_groups"] > 128
    low, high = summary["accuracy_after_interval"]
    assert 0 < low < summary["accuracy_after"] < high < 1
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl") if "loss" in record] == [*range(1, 9)]
    assert (tmp_path / "training.png").stat().st_size > 10_000
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert "The same with your own model" in capsys.readouterr().out
