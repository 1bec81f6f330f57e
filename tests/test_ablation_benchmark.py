"""The ablation: each rung adds one technique, and the table comes of real runs."""

from dataclasses import replace

from trl import GRPOTrainer

from benchmarks import ablation, report
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
from benchmarks.worlds import WORLDS
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
    assert table["soft-overlong"]["punishment"] <= 0
    assert table[NAIVE]["punishment"] is None
    assert 0 < table[NAIVE]["truncated_in_training"] < 1
    assert table[NAIVE]["length_spread"] > 0.3  # of a policy that ends with equal chance at every token
    assert {name: row["difference"]["against"] for name, row in table.items() if "difference" in row} == {
        "soft-overlong": NAIVE,
        WHOLE: "soft-overlong",
        PREDICTIVE: WHOLE,
    }
    page = report.render([result], tmp_path)
    assert "| + dynamic sampling | 50 (52) |" in page
    assert "| clip-higher | tokens clipped below, above, naive GRPO |" in page
    assert (tmp_path / "ablation-quick.png").stat().st_size > 10_000
    assert 0 <= table[NAIVE]["dead_groups"] < 0.5
