"""RESULTS.md: generated from the results, up to date, losses told as plainly as wins."""

import json
import re
from pathlib import Path

import pytest
from matplotlib.testing.compare import compare_images

from benchmarks import report
from benchmarks.page.markdown import with_interval


BENCHMARKS = Path(report.__file__).parent


def test_the_page_is_what_its_results_give(tmp_path):
    report.run(str(BENCHMARKS / "results"), str(tmp_path))
    fresh = (tmp_path / "RESULTS.md").read_text()
    assert (BENCHMARKS / "RESULTS.md").read_text() == fresh, "Run `python -m benchmarks report`."
    committed, drawn = BENCHMARKS / "plots", tmp_path / "plots"
    assert {path.name for path in committed.iterdir()} == {path.name for path in drawn.iterdir()}
    assert set(re.findall(r"\]\(plots/(.*?)\)", fresh)) <= {path.name for path in drawn.iterdir()}
    for picture in drawn.iterdir():
        same = compare_images(str(committed / picture.name), str(picture), tol=5)  # fonts differ a little by machine
        assert same is None, f"Run `python -m benchmarks report`: {same}"


RATE = {"learning_rate": 1e-4}


def figures(mean, p=None, **changes):
    value = {"mean": mean, "interval": [mean - 0.01, mean + 0.01], "values": 6}
    return {**value, "p": p, "p_holm": p, **changes} if p is not None else value


def algorithms_result():
    """A result of two rows against GRPO: one that loses for certain, one that nothing is known about."""
    rows, seeds = {}, {}
    for name, accuracy, p in (
        ("grpo", 0.6, None),
        ("gspo", 0.4, 0.0004),
        ("pg-grpo", 0.61, 0.4),
        ("dpo", 0.7, 0.01),
    ):
        rows[name] = {
            "accuracy": figures(accuracy),
            "accuracy_end": figures(accuracy + 0.05),
            "tokens": 230_000.0,
            "tokens_at_budget": 200_000.0,
            "steps_at_budget": 130.0,
            "runs_short_of_budget": int(name == "gspo"),
            "steps": 150.0 if name == "gspo" else 160.0,
            "length": 25.0,
            "entropy": 0.12,
            "clip": {} if name == "dpo" else {"share": 0.0123},
            "is_offline": name == "dpo",
        }
        if p is not None:
            rows[name]["difference"] = figures(accuracy - 0.6, p)
            if name != "dpo":
                rows[name]["difference_end"] = figures(accuracy - 0.6 + 0.03, p)
        tokens = (200_000, 200_000) if name == "dpo" else (0, 200_000)
        seeds[name] = {
            "points": [
                {"step": s, "tokens": t, "accuracy": a} for s, t, a in zip((0, 9), tokens, (0.3, accuracy), strict=True)
            ]
        }
    return {
        "benchmark": "algorithms",
        "preset": "full",
        "configs": {name: {"label": f"<{name}>"} for name in rows},
        "commit": "abc",
        "versions": {"trl": "1.16.0", "transformers": "5", "torch": "2"},
        "machine": {"gpu": None, "cores": 2, "threads": 1},
        "seeds": [{"start": 0, "seed": 0, "rows": seeds}],
        "summary": {
            "sizes": {"starts": [0], "steps": 160, "held_out": 1024, "curve_prompts": 512, "samples": 2},
            "equal_tokens": 200_000,
            "start": figures(0.3),
            "start_entropy": 0.2,
            "start_length": 27.0,
            "rows": rows,
            "tuning": {name: {"tried": [[RATE, 0.4]], "chosen": RATE} for name in rows},
        },
    }


def test_methods_that_lose_are_named_beside_those_that_win(tmp_path):
    page = report.render([algorithms_result()], tmp_path)
    assert "- better: <dpo> (+0.100)" in page
    assert "- worse: <gspo> (-0.200)" in page
    assert "- not told apart from it: <pg-grpo> (+0.010)" in page
    at_end = page.split("Against GRPO at equal updates")[1]
    assert "- worse: <gspo> (-0.170)\n- not told apart from it: <pg-grpo> (+0.040)" in at_end
    row = next(line for line in page.splitlines() if line.startswith("| <gspo> |")).split(" | ")
    assert row[1:4] == ["0.400 [0.390, 0.410]", "-0.200 [-0.210, -0.190]", "< 0.001"]
    assert row[4:9] == ["200k", "130", "0.450 [0.440, 0.460]", "-0.170 [-0.180, -0.160]", "< 0.001"]
    assert "Runs ended before that, and are read at their end: <gspo>." in page
    assert "Runs ended before the last update, with no informative group left to train on: <gspo>." in page
    assert (tmp_path / "algorithms-full.png").stat().st_size > 10_000


def test_a_quick_result_is_shown_only_where_there_is_no_other(tmp_path):
    full, quick = algorithms_result(), algorithms_result() | {"preset": "quick"}
    assert "Preset `quick`" in report.render([quick], tmp_path)
    assert "Preset `quick`" not in report.render([full, quick], tmp_path)


def test_the_overhead_table_has_medians_and_ratios(tmp_path):
    seconds = {"trl": [1.0, 3.0], "neutral": [1.1, 3.1], "replay": [1.2, 3.2]}
    ratio = {"median": 1.05, "interval": [1.01, 1.1], "values": 3}
    result = algorithms_result() | {
        "benchmark": "overhead",
        "seeds": [{"seed": 0, "step_seconds": seconds}],
        "summary": {"neutral_over_trl": ratio, "replay_over_trl": ratio},
    }
    page = report.render([result], tmp_path)
    assert "| TRL's `GRPOTrainer` | 2.000 | 1 |" in page
    assert "2.100 | 1.050 [1.010, 1.100] |" in page


@pytest.mark.parametrize("name", report.SECTIONS)
def test_every_section_ends_with_what_it_cannot_show(name, tmp_path):
    page = report.render([], tmp_path)
    section = page.split(f"## {report.SECTIONS[name].title}")[1].split("\n## ")[0]
    assert section.strip().splitlines()[-1].startswith("**What it cannot show at this scale.**")


def test_a_result_without_a_section_is_an_error(tmp_path):
    (tmp_path / "other.json").write_text(json.dumps({"benchmark": "other"}))
    with pytest.raises(ValueError, match="other"):
        report.run(str(tmp_path), str(tmp_path))


def test_one_or_two_values_have_no_interval():
    assert with_interval({"mean": 0.25, "interval": [0.25, 0.25], "values": 1}, "+") == "+0.250"
    assert with_interval({"mean": 0.25, "interval": [0.2, 0.3], "values": 2}) == "0.250"
    assert with_interval({"median": 0.25, "interval": [0.2, 0.3], "values": 3}) == "0.250 [0.200, 0.300]"
