"""The simulation runs the trainer's selector, reaches its targets where they are set, and writes its result."""

import json
from dataclasses import replace

import pytest

from benchmarks import selection_simulation
from benchmarks.selection_simulation import SATURATED, Scenario, simulate


@pytest.mark.parametrize("seed", [0, 1])
def test_the_targets_on_a_saturated_pool(seed):
    uniform = simulate(replace(SATURATED, selection=None), seed)
    predictive = simulate(SATURATED, seed)
    assert uniform["uniform_accept_rate_start"] < 0.37
    assert uniform["generated_per_trained"] > 2.6
    assert predictive["generated_per_trained"] <= 1.6
    assert predictive["generated_per_trained_second_half"] <= 1.15
    assert predictive["calibration_error"] < 0.05
    assert predictive["coverage"] == 1


def test_without_a_prior_nothing_can_be_known_of_prompts_seen_once():
    short = Scenario(20_000, 64, 40, SATURATED.drift, draws_once=True)
    uniform = simulate(replace(short, selection=None), 0)["share_of_limit"]
    assert simulate(short, 0)["share_of_limit"] == pytest.approx(uniform, abs=0.03)
    assert simulate(replace(short, offline_pass_rates=True), 0)["share_of_limit"] > 1.5 * uniform


def test_the_command_writes_every_seed(tmp_path, monkeypatch):
    small = replace(SATURATED, prompts=256, generations=4)
    monkeypatch.setattr(selection_simulation, "scenarios", lambda preset: {"small": small})
    monkeypatch.setattr("sys.argv", ["selection_simulation", "--seeds", "2", "--out", str(tmp_path / "out.json")])
    selection_simulation.main()
    result = json.loads((tmp_path / "out.json").read_text())
    assert [entry["seed"] for entry in result["seeds"]] == [0, 1]
    assert result["configs"]["small"]["prompts"] == 256
    mean = sum(entry["generated_per_trained"] for entry in result["seeds"]) / 2
    assert result["summary"]["small"]["generated_per_trained"]["mean"] == pytest.approx(mean)
