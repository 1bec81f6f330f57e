"""The ablation: each rung adds one technique, and the table comes of real runs."""

from dataclasses import replace

import pytest
from trl import GRPOTrainer

from benchmarks import ablation, report
from benchmarks.ablation.overlong import CountedOverlong
from benchmarks.ablation.rows import (
    BARE,
    LADDER,
    LEFT_OUT,
    METHODS,
    NAIVE,
    PREDICTIVE,
    TECHNIQUES,
    WHOLE,
    compared_with,
)
from benchmarks.ablation.summary import _solved
from benchmarks.ablation.techniques import _verdict
from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.worlds import WORLDS
from benchmarks.page.markdown import with_interval
from dapo_ext.playground.task import EOS_TOKEN_ID
from tests.campaigns import campaign, small  # noqa: F401 - a fixture


def changed(row, other):
    return {name: value for name, value in METHODS[row].settings.items() if METHODS[other].settings.get(name) != value}


def test_each_rung_adds_one_technique_in_the_papers_order():
    assert (NAIVE, *TECHNIQUES, PREDICTIVE) == LADDER
    assert METHODS[NAIVE].trainer is GRPOTrainer
    first, *others = TECHNIQUES
    bare = {name: value for name, value in METHODS[first].settings.items() if name in BARE}
    assert bare == BARE | TECHNIQUES[first][1]
    for rung, below in zip(others, [first, *others], strict=False):
        assert changed(rung, below) == TECHNIQUES[rung][1]
    assert changed(PREDICTIVE, WHOLE) == {"prompt_selection": "predictive"}


def test_what_is_left_out_is_all_that_is_left_out():
    for name, (_, settings) in TECHNIQUES.items():
        if name != WHOLE:
            assert changed(f"{LEFT_OUT}{name}", WHOLE) == {field: BARE[field] for field in settings}


def test_rungs_are_compared_with_the_one_below_and_left_out_ones_with_the_whole():
    against = compared_with(list(METHODS))
    assert against["overlong-filtering"] == NAIVE
    assert against[WHOLE] == "token-level"
    assert against[f"{LEFT_OUT}clip-higher"] == WHOLE
    assert len(against) == len(METHODS) - 1
    assert compared_with([NAIVE, "token-level"]) == {"token-level": NAIVE}


def test_in_the_redo_world_the_punished_interval_begins_above_the_longest_answer_without_a_redo(tmp_path):
    for world in (WORLDS["redo"], WORLDS["gpu-redo"]):
        longest = 4 * (world.max_terms - 1) + 3  # each step, the mark, the digit and EOS
        config = METHODS[WHOLE].config(str(tmp_path), **METHODS[WHOLE].settings_in(world))
        start = config.max_completion_length - config.soft_overlong_tokens
        assert longest <= start <= longest + 2


def test_the_table_comes_of_real_runs_and_shows_what_each_technique_had_to_act_on(small, tmp_path, monkeypatch):  # noqa: F811
    rows = (NAIVE, "soft-overlong", WHOLE, PREDICTIVE)
    preset = replace(ablation.PRESETS["quick"], methods=rows, steps=16, evaluate_every=16, held_out=8, curve_prompts=4)
    monkeypatch.setitem(ablation.PRESETS, "quick", preset)
    result = ablation.run("quick", campaign(tmp_path))
    table = result["summary"]["rows"]
    assert list(table) == list(rows)
    assert set(table[NAIVE]["clip"]) == {"low", "high", "share"}
    assert 0 < table[NAIVE]["truncated_in_training"] < 1
    assert table[NAIVE]["length_spread"] > 0.3  # of a policy that ends with equal chance at every token
    assert {name: row["difference"]["against"] for name, row in table.items() if "difference" in row} == {
        "soft-overlong": NAIVE,
        WHOLE: "soft-overlong",
        PREDICTIVE: WHOLE,
    }
    page = report.render([result], tmp_path)
    assert "| + dynamic sampling | 50 (52) |" in page
    line = next(line for line in page.splitlines() if line.startswith("| soft overlong punishment |"))
    # Four techniques lie between the two rungs, so that their difference is not this one's; one run is no test
    assert line.startswith("| soft overlong punishment | - | - | - | - |")
    assert line.endswith("| not tested |")
    line = next(line for line in page.splitlines() if line.startswith("| predictive selection |"))
    assert with_interval(table[PREDICTIVE]["difference"], "+") in line
    assert table[WHOLE]["difference_at_tokens"]["against"] == "soft-overlong"
    assert "- + predictive selection, against + dynamic sampling: " in page
    assert "| prompts solved by none / some / all samples |" in page
    assert sum(table[NAIVE]["solved"].values()) == pytest.approx(1)
    assert 0 < table[NAIVE]["ended_overlong"] < table[NAIVE]["overlong"] < 1
    assert (tmp_path / "ablation-quick.png").stat().st_size > 10_000
    assert 0 <= table[NAIVE]["dead_groups"] < 0.5


def test_overlong_completions_are_counted_ended_and_cut_off():
    world = WORLDS["redo"]
    counted = CountedOverlong(CountedReward(1), world.max_completion_length)
    settings = METHODS[WHOLE].settings_in(world)
    config = METHODS[WHOLE].config("", **settings)
    assert counted.start == config.max_completion_length - config.soft_overlong_tokens == 40
    rows = {40: True, 41: True, 47: True, 48: False}
    ids = [[5] * (length - 1) + [EOS_TOKEN_ID if ended else 5] for length, ended in rows.items()]
    counted(completions=["" for _ in ids], completion_ids=ids, answer=["0"] * len(ids))
    assert counted.shares() == {"overlong": 3 / 4, "ended_overlong": 2 / 4}


def difference(mean, p):
    return {"mean": mean, "interval": [mean - 0.01, mean + 0.01], "values": 6, "p": p, "p_holm": p}


@pytest.mark.parametrize(
    ("rung", "left_out", "amount", "verdict"),
    [
        (difference(0.05, 0.01), difference(-0.05, 0.01), 0.3, "helps as a rung and helps beside all others"),
        (difference(-0.05, 0.01), difference(-0.01, 0.9), 0.3, "hurts as a rung"),
        (None, difference(0.05, 0.01), 0.3, "hurts beside all others"),
        (difference(0.01, 0.9), None, 0.002, "no effect told apart, it had next to nothing to act on"),
        (difference(0.01, 0.9), None, 0.2, "no effect told apart, though it had something to act on"),
        (difference(0.01, None), None, 0.2, "not tested"),
    ],
)
def test_a_verdict_says_why_a_technique_does_nothing(rung, left_out, amount, verdict):
    assert _verdict(rung, left_out, amount) == verdict


def test_prompts_are_counted_by_how_often_they_are_solved():
    runs = [{"points": [{"k": 4, "successes": "0044"}]}, {"points": [{"k": 4, "successes": "1234"}]}]
    assert _solved(runs) == {"never": 2 / 8, "sometimes": 3 / 8, "always": 3 / 8}
    assert _solved([{"points": [{"k": 4}]}]) is None


def test_the_published_recipe_is_marked():
    marked = [name for name, method in METHODS.items() if "published recipe" in method.label]
    assert marked == [f"{LEFT_OUT}overlong-filtering"]
    settings = METHODS[marked[0]].settings
    assert settings["soft_overlong_cache"] > 0
    assert settings["mask_truncated_completions"] is False
