"""`python -m benchmarks algorithms`: its two stages, the arithmetic of its table, and one real run."""

import json
import math
from dataclasses import replace

import pytest
import torch

from benchmarks import algorithms, on_policy, report
from benchmarks.algorithms import train
from benchmarks.algorithms.rows import METHODS, ON_POLICY_METHODS
from benchmarks.algorithms.summary import at_budget, summarise
from benchmarks.harness import tables
from benchmarks.harness.comparisons import holm, paired_p_value
from benchmarks.harness.method_runs import START, MethodSpec, clip_shares, mean_entropy, train_method
from benchmarks.harness.tables import Campaign
from dapo_ext import evaluate
from dapo_ext.playground import make_dataset
from tests.campaigns import campaign, small  # noqa: F401 - a fixture
from tests.tiny import build_tokenizer, policy, policy_dir


# ---- The two stages ----


def record(spec, accuracy, tokens=100, **changes):
    points = [
        {"step": 0, "tokens": 0, "accuracy": 0.2, "cpu_seconds": 0.0},
        {"step": spec.steps, "tokens": tokens, "accuracy": accuracy, "cpu_seconds": 1.0},
    ]
    common = {"pass": 0.5, "length": 20.0, "truncated": 0.0, "seconds": 1.0}
    return {
        "spec": json.loads(json.dumps(vars(spec))),
        "points": [{**point, **common} for point in points],
        "clip": {"share": 0.1},
        "entropy": 0.2,
        **changes,
    }


def test_the_reported_runs_take_what_their_trials_chose(tmp_path, monkeypatch):
    asked = []
    best = {
        "grpo": {"learning_rate": 3e-4, "epsilon": 0.4},
        "pg-grpo": {"learning_rate": 1e-4, "pg_beta": 0.3},
        "dpo": {"learning_rate": 3e-4, "beta": 0.1},
        "pg-dpo": {"learning_rate": 1e-4, "pg_beta": 0.03},
    }

    def run_in_stages(specs, work, store, warm_starts, jobs, deadline):
        asked.append(specs)
        return [record(spec, 0.5 if dict(spec.tried) == best.get(spec.row) else 0.4) for spec in specs]

    monkeypatch.setattr(tables, "run_all", run_in_stages)
    monkeypatch.setitem(algorithms.PRESETS, "quick", replace(algorithms.PRESETS["quick"], knobs=3))
    result = algorithms.run("quick", Campaign(str(tmp_path / "algorithms.json"), 2, 1, str(tmp_path)))
    trials, reported = [[spec for spec in specs if spec.row != START] for specs in asked]
    assert len(trials) == 4 * 2 * 3
    assert {row: dict(spec.tried) for spec in reported if (row := spec.row)} == best
    assert all(spec.changes.items() >= best[spec.row].items() for spec in reported)
    assert [entry["seed"] for entry in result["seeds"]] == [0, 1]
    assert result["summary"]["tuning"]["grpo"]["chosen"] == best["grpo"]
    assert result["configs"]["pg-grpo"]["pg_beta"] == 0.3
    report.run(str(tmp_path), str(tmp_path / "page"))
    page = (tmp_path / "page" / "RESULTS.md").read_text()
    assert "| PG-GRPO, no KL, pg_beta 0.3 | **0.500** | 0.400 |" in page
    assert "| PG-GRPO, no KL, pg_beta 0.1 | 0.400 | 0.400 |" in page
    edges = page.split("own lies at the edge of what was tried for: ")[1].split("\n")[0]
    assert edges == "GRPO (TRL) (epsilon 0.4); PG-DPO, offline (pg_beta 0.03)."
    assert "| warm start | 0.400 | - | - | 0k | 0 | - | - | - | 0k | - | 0.200 | 20.0 |" in page


# ---- The table ----


def spec(row, start=0, seed=0):
    return MethodSpec(row, start, seed, steps=10, evaluate_every=10, changes={"learning_rate": 1e-4}, token_budget=80)


def with_budget_point(record, accuracy, tokens):
    """The record of a run that was measured on its way, at step 5."""
    first, last = record["points"]
    there = {**last, "step": 5, "tokens": tokens, "accuracy": accuracy, "at_budget": True}
    return record | {"points": [first, there, last]}


def test_the_table_is_read_where_the_budget_was_measured_and_paired_by_run():
    offline = [{"step": s, "tokens": 80, "accuracy": a} for s, a in ((0, 0.2), (10, 0.7))]
    offline[-1]["at_budget"] = True
    common = {"pass": 0.5, "length": 20.0, "truncated": 0.0, "cpu_seconds": 1.0}
    records = [
        record(spec(START), 0.2),
        with_budget_point(record(spec("grpo", seed=0), 0.4, tokens=100), 0.36, 84),
        record(spec("grpo", seed=1), 0.6, tokens=79),  # ended before the budget
        with_budget_point(record(spec("dapo", seed=1), 0.8, tokens=160), 0.5, 90),
        with_budget_point(record(spec("dapo", seed=0), 0.7, tokens=160), 0.4, 86),
        *(
            record(spec("pg-dpo", seed=s), 0.0, points=[{**point, **common} for point in offline], clip={})
            for s in (0, 1)
        ),
        record(spec("dpo", seed=0), 0.0, points=[{**point, **common, "accuracy": 0.4} for point in offline], clip={}),
        record(spec("dpo", seed=1), 0.0, points=[{**point, **common, "accuracy": 0.5} for point in offline], clip={}),
    ]
    summary = summarise(records)
    assert summary["equal_tokens"] == 80
    rows = summary["rows"]
    assert (rows["dapo"]["tokens_at_budget"], rows["dapo"]["steps_at_budget"]) == (88, 5)
    assert [rows[name]["runs_short_of_budget"] for name in ("grpo", "dapo", "pg-dpo")] == [1, 0, 0]
    assert rows["grpo"]["accuracy"]["mean"] == pytest.approx(0.48)
    assert rows["dapo"]["accuracy"]["mean"] == pytest.approx(0.45)
    assert rows["dapo"]["accuracy_end"]["mean"] == pytest.approx(0.75)
    assert rows["dapo"]["difference"]["mean"] == pytest.approx((0.04 - 0.10) / 2)
    assert rows["dapo"]["difference"]["interval"] == pytest.approx([-0.1, 0.04])
    assert rows["pg-dpo"]["accuracy"]["mean"] == 0.7
    assert rows["pg-dpo"]["is_offline"]
    assert not rows["dapo"]["is_offline"]
    assert "difference" not in rows["grpo"]
    assert rows["pg-dpo"]["difference_offline"]["mean"] == pytest.approx(0.25)
    pairs = {
        ("dapo", "difference"): [0.04, -0.10],
        ("pg-dpo", "difference"): [0.34, 0.10],
        ("dpo", "difference"): [0.04, -0.10],
        ("dapo", "difference_end"): [0.3, 0.2],
        ("pg-dpo", "difference_offline"): [0.3, 0.2],
    }
    expected = holm([paired_p_value(each) for each in pairs.values()])
    assert [rows[name][what]["p_holm"] for name, what in pairs] == pytest.approx(expected)
    assert not {"difference_end", "difference_offline"} & set(rows["dpo"])


def test_a_run_that_spent_nothing_stands_at_its_end():
    points = [{"tokens": 0, "accuracy": 0.1}, {"tokens": 0, "accuracy": 0.3}]
    assert at_budget(points) == points[-1]


def test_runs_of_several_budgets_are_no_table():
    with pytest.raises(ValueError, match="one token_budget"):
        summarise([record(spec(START), 0.2), record(replace(spec("grpo"), token_budget=90), 0.4)])


def test_clip_shares_are_means_of_the_second_half():
    log = [{"step": s, "clip_ratio/region_mean": value, "loss": 0.0} for s, value in enumerate((9, 9, 1, 3), 1)]
    assert clip_shares([*log, {"step": 4, "train_runtime": 1.0}]) == {"share": 2.0}
    pairs = [{"step": 2, "pg_dpo/rejected_clipped_low": 0.6, "pg_dpo/chosen_clipped_high": 0.2}]
    assert clip_shares(pairs) == {"low": 0.6, "high": 0.2, "share": 0.4}
    assert clip_shares([{"step": 2, "loss": 0.0}]) == {}


def test_the_paired_test_agrees_with_its_closed_form_for_two_degrees_of_freedom():
    t = 2 / (1 / math.sqrt(3))
    assert paired_p_value([1, 2, 3]) == pytest.approx(1 - t / math.sqrt(t**2 + 2))
    assert paired_p_value([-1, -2, -3]) == paired_p_value([1, 2, 3])
    assert paired_p_value([1]) is None
    assert paired_p_value([1, 1]) is None


def test_holm_multiplies_by_what_is_left_and_never_falls():
    assert holm([0.04, 0.01, None, 0.03]) == pytest.approx([0.09, 0.04, None, 0.09])
    assert holm([0.6, 0.7]) == [1.0, 1.0]


# ---- The runs ----


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_eight_updates_of_64_completions_or_32_pairs(name, tmp_path):
    method = METHODS[name]
    args = method.config(str(tmp_path), **method.settings)
    assert args.max_grad_norm == 1.0
    assert len(method.knob) == algorithms.PRESETS["full"].knobs
    if method.is_offline:
        assert args.per_device_train_batch_size == 32
    else:
        assert (args.generation_batch_size, args.steps_per_generation, args.num_generations) == (512, 8, 8)
        assert args.gradient_accumulation_steps == args.num_iterations == 1
        assert args.beta == (0.001 if name == "pg-grpo-as-proposed" else 0)
        if name in ("dapo", "pg-grpo-with-dapo"):
            assert args.soft_overlong_tokens == 8


@pytest.mark.parametrize("name", ON_POLICY_METHODS)
def test_on_policy_every_update_has_a_generation_of_its_own(name, tmp_path):
    method = ON_POLICY_METHODS[name]
    args = method.config(str(tmp_path), **method.settings)
    assert (args.generation_batch_size, args.steps_per_generation, args.num_iterations) == (64, 1, 1)
    if getattr(args, "dynamic_sampling", False):
        assert not args.carry_surplus  # nothing written by an older policy


def test_the_on_policy_table_comes_of_real_runs_whose_clip_never_acts(small, tmp_path, monkeypatch):  # noqa: F811
    preset = replace(on_policy.PRESETS["quick"], methods=("grpo", "rloo"), steps=2, held_out=8, curve_prompts=4)
    monkeypatch.setitem(on_policy.PRESETS, "quick", preset)
    result = on_policy.run("quick", campaign(tmp_path))
    assert {name: row["clip"]["share"] for name, row in result["summary"]["rows"].items()} == {"grpo": 0, "rloo": 0}
    assert "each on a generation of its own" in report.render([result], tmp_path)


def test_a_run_records_curve_clip_and_entropy():
    changes = {**METHODS["grpo"].settings, "per_device_train_batch_size": 8, "learning_rate": 1e-4}
    run = MethodSpec("grpo", 0, 0, 16, evaluate_every=8, changes=changes, held_out=8, curve_prompts=4, samples=1)
    measured = train(run, policy_dir().name)
    assert [point["step"] for point in measured["points"]] == [0, 8, 16]
    assert [point["k"] for point in measured["points"]] == [1, 1, 2]
    generated = [point["tokens"] for point in measured["points"]]
    assert generated[0] == 0
    # Two generations of 8 prompts x 8 completions of at most 48 tokens, the second still to be trained on at step 8
    assert 64 < generated[1] <= 64 * 48
    assert 128 < generated[2] <= 128 * 48
    assert set(measured["clip"]) == {"low", "high", "share"}
    assert 0 < measured["entropy"] < math.log(20)


def budget_run(name, **changes):
    """A run of three generations of 64 completions in 8 updates each, whose budget the first does not spend."""
    row = {**METHODS[name].settings, "per_device_train_batch_size": 8, "learning_rate": 1e-4}
    sizes = {"evaluate_every": 24, "held_out": 8, "curve_prompts": 4, "samples": 1}
    return MethodSpec(name, 0, 0, 24, changes=row, **{**sizes, **changes})


@pytest.mark.parametrize(("split", "steps"), [("held_out", [0, 16, 24]), ("tuning", [0, 16])])
def test_a_run_is_measured_in_full_after_the_generation_that_spends_its_budget(small, split, steps):  # noqa: F811
    # 64 completions of a policy that ends at any of 20 tokens with equal chance have 1,170 tokens, give or take 120
    measured = train(budget_run("grpo", split=split, token_budget=1700), policy_dir().name)
    points = measured["points"]
    assert [point["step"] for point in points] == steps
    assert [point.get("at_budget", False) for point in points] == [False, True, False][: len(points)]
    assert 1700 <= points[1]["tokens"] < 2 * 1700  # at most a generation more
    # The same prompts and samples as at the end, and what each prompt made of them
    for point in points[1:]:
        assert (point["k"], len(point["successes"])) == (2, 8)
        assert sum(map(int, point["successes"])) / 16 == pytest.approx(point["accuracy"])
    assert "successes" not in points[0]
    # The run was over at its last logged step, whatever was planned
    assert set(measured["clip"]) == {"low", "high", "share"}


def test_an_offline_run_samples_until_the_budget_and_stands_at_its_end(small):  # noqa: F811
    spec = replace(budget_run("dpo"), steps=2)
    generation = 64 * 8
    measured = train(replace(spec, token_budget=generation * 25), policy_dir().name)
    start, end = measured["points"]
    assert start["tokens"] == end["tokens"] >= generation * 25
    assert end["generated_groups"] % 64 == 0
    assert (end["at_budget"], end["k"], len(end["successes"])) == (True, 2, 8)
    with pytest.raises(ValueError, match="needs a token_budget"):
        train(spec, policy_dir().name)
    few = make_dataset("train", 64)
    with pytest.raises(ValueError, match="not reached by sampling all 64 prompts"):
        train_method(METHODS["dpo"], replace(spec, token_budget=10**6), policy_dir().name, few)


def test_the_entropy_is_the_mean_over_the_tokens_the_policy_samples():
    model, tokenizer, prompts = policy(), build_tokenizer(), make_dataset("held_out", 6)
    sampled = []

    def keep(completion_ids, **columns):
        sampled.extend(completion_ids)
        return [0.0] * len(completion_ids)

    evaluate(model, tokenizer, prompts, keep, k=1, max_completion_length=48, batch_size=512)
    entropies = []
    for prompt, completion in zip(prompts["prompt"], sampled, strict=True):
        ids = tokenizer(prompt)["input_ids"] + completion
        logits = model(torch.tensor([ids])).logits[0].double()
        for position in range(len(ids) - len(completion) - 1, len(ids) - 1):
            probabilities = logits[position].softmax(0)
            entropies.append(-(probabilities * probabilities.log()).sum().item())
    assert mean_entropy(model, tokenizer, prompts) == pytest.approx(sum(entropies) / len(entropies), rel=1e-5)
