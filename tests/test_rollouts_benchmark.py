"""The benchmark of ways to fill a batch: the pools, the policies on the real trainer, the table's arithmetic."""

import dataclasses

import pytest

from benchmarks import report, rollouts
from benchmarks.harness.comparisons import holm
from benchmarks.harness.methods import PROMPTS_PER_GENERATION
from benchmarks.harness.pools import SIZE, train_prompts
from benchmarks.harness.run_spec import RunSpec
from benchmarks.rollouts import PRESETS, specs, train
from benchmarks.rollouts.rows import POLICIES
from benchmarks.rollouts.summary import first_reaching, measure, summarise
from dapo_ext.playground import make_dataset
from tests.tiny import policy_dir


@pytest.mark.parametrize(("name", "well_known", "terms"), [("mixed", 224, [6, 11]), ("saturated", 493, [9, 11])])
def test_a_pool_is_of_well_known_short_sums_and_long_ones(name, well_known, terms):
    pool = train_prompts(name, seed=3)
    assert len(set(pool["prompt"])) == len(pool) == SIZE
    assert sum(terms <= 3 for terms in pool["terms"]) == well_known
    long = [terms for terms in pool["terms"] if terms > 3]
    assert [min(long), max(long)] == terms
    assert not set(pool["prompt"]) & set(make_dataset("held_out", 1024)["prompt"])


def test_an_unknown_pool_is_an_error():
    with pytest.raises(ValueError, match="'easy'"):
        train_prompts("easy", seed=0)


def test_a_full_run_trains_on_four_times_the_saturated_pool():
    steps = PRESETS["full"].steps["saturated"]
    assert steps / 4 * PROMPTS_PER_GENERATION >= 4 * SIZE
    full = specs(PRESETS["full"], 3)
    assert len({spec.key for spec in full}) == len(full) == 2 * 3 * 2 * 6


@pytest.mark.parametrize("policy", ["plain", "whole_batch", "predictive"])
def test_a_run_counts_what_its_policy_generates(policy, monkeypatch):
    monkeypatch.setattr(rollouts, "SETTING", rollouts.SETTING | {"per_device_train_batch_size": 16})
    monkeypatch.setattr(rollouts, "train_prompts", lambda pool, seed: make_dataset("train", 32, max_terms=3))
    # Rewards are all 0 for an untrained policy, so odd lengths are rewarded
    monkeypatch.setattr(rollouts, "CountedReward", OddLengths)
    spec = RunSpec(policy, 0, 0, 8, 4, rollouts.POLICIES[policy].settings, "fresh", 8, samples=1)
    record = train(spec, policy_dir().name)
    assert [point["step"] for point in record["points"]] == [0, 4, 8]
    generated = record["points"][-1]["generated_groups"]
    trained = record["points"][-1]["trained_informative"]
    if policy == "plain":  # two batches of 8 groups, the dead ones too
        assert generated == 16
        assert trained == record["points"][-1]["informative_groups"] <= 16
    else:
        assert trained == 16 <= generated
    if policy == "whole_batch":
        assert generated % 8 == 0
    assert bool(record["prompt_selection"]) == (policy == "predictive")


class OddLengths(rollouts.CountedReward):
    """Rewards completions of odd length, and counts groups as its parent does."""

    def __call__(self, completion_ids, **kwargs):
        rewards = [float(len(ids) % 2) for ids in completion_ids]
        groups = [rewards[i : i + 8] for i in range(0, len(rewards), 8)]
        self.tokens += sum(map(len, completion_ids))
        self.groups += len(groups)
        self.informative += sum(len(set(group)) > 1 for group in groups)
        return rewards


def curve(*points):
    names = ("step", "tokens", "seconds", "accuracy", "generated_groups", "informative_groups", "trained_informative")
    return [dict(zip(names, point, strict=True), cpu_seconds=point[2]) for point in points]


GRPO = curve((0, 0, 0, 0.3, 0, 0, 0), (4, 100, 10, 0.4, 8, 4, 4), (8, 200, 20, 0.5, 16, 8, 8))
FAST = curve((0, 0, 0, 0.3, 0, 0, 0), (4, 160, 8, 0.7, 12, 9, 8), (8, 280, 16, 0.6, 21, 17, 16))


def test_the_figures_of_a_run_are_read_off_its_curve():
    figures = measure(FAST, GRPO, tokens=200)
    assert figures["generated_per_trained"] == 21 / 16
    assert figures["generated_per_trained_second_half"] == (21 - 12) / (16 - 8)
    assert figures["accept_rate"] == 17 / 21
    assert figures["accuracy_equal_steps"] == 0.6
    assert figures["accuracy_equal_tokens"] == pytest.approx(0.7 - 0.1 * 40 / 120)
    assert figures["accuracy_equal_time"] == 0.6  # its run was shorter: its end holds
    # .5 is reached half way from .3 to .7
    assert figures["seconds_to_baseline"] == figures["cpu_seconds_to_baseline"] == pytest.approx(4)
    assert figures["tokens_to_baseline"] == pytest.approx(80)
    assert first_reaching(GRPO, 0.51, "seconds") is None


def test_a_baseline_that_was_there_before_its_end_is_read_where_it_first_was():
    early = curve((0, 0, 0, 0.3, 0, 0, 0), (4, 100, 10, 0.6, 8, 4, 4), (8, 200, 20, 0.5, 16, 8, 8))
    records = [
        {"spec": dataclasses.asdict(spec), "points": FAST if spec.row == "predictive" else early}
        for spec in specs(PRESETS["full"], 1)
    ]
    rows = summarise(records)["mixed"]
    assert rows["grpo"]["speed_up"]["seconds"]["mean"] == 1
    # .5 is reached at 20 / 3 seconds by the baseline, whose run has 20, and at 4 by the other
    assert rows["predictive"]["speed_up"]["seconds"]["mean"] == pytest.approx(20 / 3 / 4)


def test_the_differences_of_a_pool_are_corrected_together():
    paired = summarise(run_records())["mixed"]
    found = [each for policy in POLICIES for each in paired[policy]["paired"].values()]
    assert len(found) == 5 * 3
    assert holm([each["p"] for each in found]) == [each["p_holm"] for each in found]


def run_records():
    return [
        {
            "spec": dataclasses.asdict(spec) | {"steps": 8},
            "points": FAST if spec.row == "predictive" else GRPO,
            "prompt_selection": [
                {"step": 8}
                | {
                    f"prompt_selection/{name}": 0.25
                    for name in ("predicted_accept_rate", "realised_accept_rate", "exploration_share", "coverage")
                }
            ],
        }
        for spec in specs(PRESETS["full"], 2)
    ]


def test_the_page_shows_cost_accuracy_and_calibration(tmp_path):
    summary = summarise(run_records())
    row = summary["saturated"]["predictive"]
    assert row["paired"]["accuracy_equal_steps_minus_uniform"]["mean"] == pytest.approx(0.1)
    assert row["speed_up"]["seconds"]["mean"] == pytest.approx(5)
    result = {
        "benchmark": "rollouts",
        "preset": "full",
        "configs": {name: {"learning_rate": 1e-4} for name in ("grpo", "uniform", "predictive")},
        "commit": "abc",
        "versions": {"trl": "1.16.0", "transformers": "5", "torch": "2"},
        "machine": {"gpu": None, "cores": 2, "threads": 1},
        "seeds": run_records(),
        "summary": summary,
    }
    page = report.render([result], tmp_path)
    assert (
        "| dynamic sampling, prompts by estimated pass rate | 1.312 [1.312, 1.312] | 1.125 [1.125, 1.125] | 0.810 "
        in page
    )
    assert "+0.100 [+0.100, +0.100]" in page
    assert "at one learning rate that was tuned for none of them (0.0001)" in page
    assert "| saturated | 0.250 | 0.250 | 0.250 | 0.250 |" in page
    assert (tmp_path / "rollouts-full.png").stat().st_size > 10_000
