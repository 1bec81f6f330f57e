"""`python -m benchmarks check`: prediction intervals of quick results."""

import json

import numpy as np
import pytest

from benchmarks.check import compare, figures, main, t_quantile


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.975, 4, 2.7764), (0.995, 3, 5.8409), (0.9995, 30, 3.6460), (0.6, 1, 0.3249)],
)
def test_quantiles_are_those_of_the_tables(probability, freedom, value):
    assert t_quantile(probability, freedom) == pytest.approx(value, abs=1e-4)


def test_the_interval_is_of_the_pooled_spread_and_holds_for_all_figures_at_once():
    committed = {"a": [0.4, 0.5, 0.6], "b": [0.1, 0.1, 0.4]}
    spread = np.sqrt((np.var([0.4, 0.5, 0.6], ddof=1) + np.var([0.1, 0.1, 0.4], ddof=1)) / 2)
    reach = t_quantile(1 - 0.01 / 4, 4) * spread * np.sqrt(1 / 3 + 1 / 2)
    first, second = compare(committed, {"a": [0.5, 0.7], "b": [0.2 + reach, 0.2 + 1.01 * reach]})
    assert (first.low, first.high) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert first.inside
    assert not second.inside


def test_a_spread_below_the_least_is_taken_for_it():
    committed, fresh = {"a": [1.0, 1.0001, 1.0]}, {"a": [1.02]}
    assert not compare(committed, fresh)[0].inside
    verdict = compare(committed, fresh, 0.01)[0]
    assert verdict.inside
    assert verdict.high - verdict.low == pytest.approx(2 * t_quantile(1 - 0.01 / 2, 2) * 0.01 * np.sqrt(1 / 3 + 1))


def test_a_new_run_of_the_same_kind_lies_inside_nearly_always():
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(100):
        rows = {name: rng.normal(0.4, 0.03, 5).tolist() for name in "abcd"}
        verdicts = compare({name: v[:4] for name, v in rows.items()}, {name: v[4:] for name, v in rows.items()})
        inside += all(verdict.inside for verdict in verdicts)
    assert inside >= 97


def test_a_result_that_cannot_be_compared_is_an_error():
    with pytest.raises(ValueError, match="differ in their rows"):
        compare({"a": [1.0, 2.0]}, {"b": [1.0]})
    with pytest.raises(ValueError, match="one run"):
        compare({"a": [1.0]}, {"a": [1.0]})


def result(*accuracies):
    def row(accuracy):
        return {"points": [{"accuracy": 0.0}, {"accuracy": accuracy}]}

    seeds = [{"seed": i, "rows": {"start": row(0.1), "grpo": row(a), "dapo": row(a)}} for i, a in enumerate(accuracies)]
    return {"benchmark": "algorithms", "seeds": seeds}


def test_figures_are_of_runs_by_row_of_pools_and_of_step_times():
    assert figures(result(0.4, 0.5)) == {"grpo": [0.4, 0.5], "dapo": [0.4, 0.5]}
    entry = {"spec": {"pool": "mixed", "row": "plain"}, "points": [{"accuracy": 0.3}]}
    assert figures({"benchmark": "rollouts", "seeds": [entry, entry]}) == {"mixed plain": [0.3, 0.3]}
    seconds = {"step_seconds": {"trl": [1.0, 2.0, 4.0], "neutral": [1.1, 2.0, 4.8]}}
    assert figures({"benchmark": "overhead", "seeds": [seconds]}) == {"neutral": [pytest.approx(1.1)]}


def test_step_times_of_another_day_may_differ_by_a_percent(tmp_path):
    for name, ratios in (("committed", (1.05, 1.0501)), ("fresh", (1.06,))):
        seeds = [{"step_seconds": {"trl": [1.0], "neutral": [ratio]}} for ratio in ratios]
        (tmp_path / name).mkdir()
        (tmp_path / name / "overhead.json").write_text(json.dumps({"benchmark": "overhead", "seeds": seeds}))
    assert main(["--committed", str(tmp_path / "committed"), "--fresh", str(tmp_path / "fresh")]) == 0


def test_the_command_says_what_lies_outside(tmp_path, capsys):
    for name, content in (("committed", result(0.40, 0.42, 0.41)), ("same", result(0.415)), ("broken", result(0.1))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "algorithms.json").write_text(json.dumps(content))
    paths = ["--committed", str(tmp_path / "committed"), "--fresh"]
    assert main([*paths, str(tmp_path / "same")]) == 0
    assert main([*paths, str(tmp_path / "broken")]) == 1
    assert "algorithms.json grpo: 0.100 OUTSIDE" in capsys.readouterr().out
    assert main([*paths, str(tmp_path / "nothing")]) == 1
