"""pass@k and the pipeline: real runs, what they come to, and the pages."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset

from benchmarks import passk, pipeline, report
from benchmarks.harness import tables
from benchmarks.harness.counted_reward import CountedReward
from benchmarks.harness.long_sums import pass_at_of_long_sums
from benchmarks.harness.method_runs import START
from benchmarks.harness.worlds import WORLDS
from benchmarks.passk.summary import summarise
from benchmarks.pipeline import reward_model, scalar_head
from dapo_ext.playground import build_policy, build_tokenizer
from tests.campaigns import OddLengths, campaign, run_here, small  # noqa: F401 - a fixture
from tests.tiny import SMALL, policy_dir


def test_pass_at_k_comes_of_real_runs(small, tmp_path, monkeypatch):  # noqa: F811
    preset = replace(passk.PRESETS["quick"], steps=8, held_out=8, curve_prompts=4, samples=2)
    monkeypatch.setitem(passk.PRESETS, "quick", preset)
    result = passk.run("quick", campaign(tmp_path))
    assert result["summary"]["sizes_of_k"] == ["1", "2", "4"]
    assert set(result["summary"]["rows"]) == {START, "grpo"}
    page = report.render([result], tmp_path)
    assert page.count("| policy | pass@1 | pass@2 | pass@4 | tokens | entropy |") == 2
    assert "**The sums of 7 terms and more alone**" in page
    assert (tmp_path / "passk-quick.png").stat().st_size > 10_000


def result_of_trials(path, world="playground", **chosen):
    tuning = {name: {"tried": [], "chosen": settings} for name, settings in chosen.items()}
    path.write_text(json.dumps({"summary": {"sizes": {"world": world}, "tuning": tuning}}))
    return str(path)


def test_pass_at_k_is_of_the_settings_that_the_trials_of_algorithms_chose(small, tmp_path, monkeypatch):  # noqa: F811
    preset = replace(passk.PRESETS["quick"], steps=8, held_out=8, curve_prompts=4, samples=2)
    monkeypatch.setitem(passk.PRESETS, "quick", preset)
    chosen = {"learning_rate": 2e-4, "epsilon": 0.4}
    source = result_of_trials(tmp_path / "algorithms.json", grpo=chosen, dapo={})
    result = passk.run("quick", campaign(tmp_path), source)
    assert result["configs"]["grpo"].items() >= chosen.items()
    assert result["summary"]["tuned_by"] == source
    assert result["summary"]["tuning"] == {}


def test_choices_that_are_not_there_are_an_error(tmp_path):
    preset = passk.PRESETS["full"]
    with pytest.raises(ValueError, match=r"nothing\.json.*does not exist.*--tuning-from"):
        passk.tuned_settings(tmp_path / "nothing.json", preset)
    with pytest.raises(ValueError, match=r"no choice .* for dapo, pg-grpo"):
        passk.tuned_settings(result_of_trials(tmp_path / "a.json", grpo={}), preset)
    rows = {name: {} for name in preset.methods}
    with pytest.raises(ValueError, match="world 'gpu'"):
        passk.tuned_settings(result_of_trials(tmp_path / "a.json", "gpu", **rows), preset)


def record(row, start, seed, *shares):
    pass_at = {"1": shares[0], "2": sum(shares) / 2, "64": shares[1]}
    point = {"pass_at": pass_at, "pass_at_long": {k: share / 2 for k, share in pass_at.items()}, "tokens": 100}
    return {"spec": {"row": row, "start": start, "seed": seed}, "points": [point], "entropy": 0.5}


def test_a_policy_that_is_sharper_but_not_wider_is_told_as_such():
    records = [record(START, 0, 0, 0.3, 0.9), record(START, 1, 0, 0.2, 0.8)]
    for start, seed, noise in ((0, 0, 0.0), (0, 1, 0.01), (1, 0, -0.01), (1, 1, 0.005)):
        base = 0.1 * start
        records.append(record("grpo", start, seed, 0.6 - base + noise, 0.8 - base + noise))
        records.append(record("dapo", start, seed, 0.7 - base + noise, 0.8 - base - noise))
    summary = summarise(records)["rows"]
    assert summary["grpo"]["over_start"]["1"]["mean"] == pytest.approx(0.30125)
    assert summary["grpo"]["over_start"]["64"]["mean"] == pytest.approx(-0.09875)
    assert summary["grpo"]["over_start"]["1"]["p_holm"] < 0.05
    assert summary["grpo"]["over_start"]["2"]["p_holm"] is None  # not tested, so that it costs nothing
    assert summary["grpo"]["over_start"]["2"]["mean"] == pytest.approx(0.10125)
    assert summary["grpo"]["over_start_long"]["64"]["mean"] == pytest.approx(-0.049375)
    assert "over_grpo" not in summary["grpo"]
    assert summary["dapo"]["over_grpo"]["1"]["mean"] == pytest.approx(0.1)
    reading = passk.page._reading({"rows": summary}, {"grpo": "GRPO", "dapo": "DAPO"})
    assert "- GRPO against the warm start: above at k = 1; below at k = 64" in reading
    assert "tested at k = 1, 64 alone" in reading


def test_long_sums_are_counted_by_terms():
    prompts = Dataset.from_dict({"prompt": ["1+2=", "1+2+3+4+5+6=", "1+2+3+4+5+6-7=", "1+2+3+4+5+6+7+8+9+0="]})
    rewards = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert pass_at_of_long_sums(prompts, rewards, 10, [1, 2]) == {"1": 0.25, "2": 0.5}
    assert pass_at_of_long_sums(prompts.select([0]), rewards[:1], 10, [1, 2]) == {}


@pytest.fixture
def few_pairs(monkeypatch):
    monkeypatch.setattr(reward_model, "CountedReward", OddLengths)
    monkeypatch.setattr(pipeline, "PROMPTS_PER_UPDATE", 3)
    monkeypatch.setattr(reward_model, "HELD_OUT_PROMPTS", 8)
    monkeypatch.setattr(scalar_head, "EPOCHS", 1)


class LowLastDigit(CountedReward):
    """Rewards completions whose last token before EOS is one of the lower half of the vocabulary."""

    def __call__(self, completions, completion_ids, answer, **kwargs):
        super().__call__(completions=completions, completion_ids=completion_ids, answer=answer)
        return [float(ids[-2:][0] < 10) for ids in completion_ids]


def test_a_reward_model_learns_what_its_pairs_prefer(few_pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(reward_model, "CountedReward", LowLastDigit)
    monkeypatch.setattr(reward_model, "HELD_OUT_PROMPTS", 128)
    monkeypatch.setattr(reward_model, "PAIRS_PER_UPDATE", 8)
    monkeypatch.setattr(reward_model, "LEARNING_RATE", 1e-2)
    world = WORLDS["playground"]
    _, figures = reward_model.train_reward_model(policy_dir().name, world, 0, tmp_path, 320)
    assert figures["pairs"] > 60
    assert figures["pair_tokens"] > 320 * 8
    assert figures["reward_model_accuracy"] > 0.75  # of some 50 pairs: chance is .5, with a deviation of .07
    assert "scalar_head_accuracy" not in figures


def test_a_score_is_the_log_ratio_of_the_completions_tokens(tmp_path):
    """Against a plain loop in float64, whatever a row is padded with."""
    tokenizer = build_tokenizer()
    policy, start = build_policy(1, **SMALL).eval(), build_policy(0, **SMALL).eval()
    model = reward_model.RewardModel(policy, start, tokenizer)
    eos = tokenizer.eos_token_id
    prompts, completions = ["1+1=", "1+1-2+3="], [[5, 6, eos], [5, 6, 7, 8, 9, 5, 6]]
    scores = model.scores(prompts, completions)
    assert model.scores(prompts[:1], completions[:1])[0] == pytest.approx(scores[0], abs=1e-5)
    for prompt, completion, score in zip(prompts, completions, scores, strict=True):
        before = tokenizer(prompt)["input_ids"]
        expected = 0.0
        for place in range(len(completion)):
            context = torch.tensor([before + completion[:place]])
            for sign, each in ((1, policy), (-1, start)):
                with torch.no_grad():
                    logits = each(input_ids=context).logits[0, -1].double()
                expected += sign * logits.log_softmax(-1)[completion[place]].item()
        assert score == pytest.approx(expected, abs=1e-4)
    same = reward_model.RewardModel(start, start, tokenizer)
    assert same.scores(prompts, completions) == [0.0, 0.0]


def test_the_longer_run_takes_the_rate_of_the_shorter_one(monkeypatch, tmp_path):
    preset = replace(pipeline.PRESETS["full"], starts=(0,))
    best = {"warm-rl": 1e-4, "scratch-rl": 9e-4, "reward-model-rl": 3e-4}
    seen = []

    def work(spec, start):
        seen.append(spec)
        accuracy = float(spec.changes.get("learning_rate") == best.get(spec.row))
        return {"points": [{"accuracy": accuracy}]}

    monkeypatch.setattr(pipeline, "train", work)
    monkeypatch.setattr(tables, "run_all", run_here)
    runs = pipeline._carry_out(preset, campaign(tmp_path))
    trials = [spec.row for spec in seen if spec.split == "tuning"]
    assert sorted(set(trials)) == sorted(best)
    assert runs.configs["scratch-rl-long"]["learning_rate"] == 9e-4
    assert [record["spec"]["row"] for record in runs.records].count(START) == 1
    assert set(runs.tuning) == set(best)


def test_the_pipeline_comes_of_real_runs(small, few_pairs, tmp_path, monkeypatch):  # noqa: F811
    preset = replace(pipeline.PRESETS["quick"], steps=8, evaluate_every=8, held_out=8, curve_prompts=4)
    monkeypatch.setitem(pipeline.PRESETS, "quick", replace(preset, methods=tuple(pipeline.METHODS)))
    starts = []
    train_method = pipeline.train_method

    def watch(method, spec, start, **arguments):
        starts.append((spec.row, spec.steps, str(start) == policy_dir().name))
        return train_method(method, spec, start, **arguments)

    monkeypatch.setattr(pipeline, "train_method", watch)
    result = pipeline.run("quick", campaign(tmp_path))
    assert starts == [
        (START, 0, True),
        ("warm-rl", 8, True),
        ("scratch-rl", 8, False),
        ("reward-model-rl", 8, True),
        (START, 0, True),  # kept from above where there is a store
        ("scratch-rl-long", 24, False),
    ]
    rows = result["summary"]["rows"]
    assert {name: row["difference"]["against"] for name, row in rows.items()} == {
        "warm-rl": START,
        "scratch-rl": "warm-rl",
        "scratch-rl-long": "warm-rl",
        "reward-model-rl": "warm-rl",
    }
    assert rows["scratch-rl-long"]["steps"] == 24
    assert [name for name in result["configs"] if name != "reward-model"] == list(pipeline.METHODS)
    assert result["configs"]["scratch-rl-long"]["max_steps"] == 24
    assert result["configs"]["warm-rl"]["max_steps"] == 8
    assert result["configs"]["reward-model"]["learning_rate"] == reward_model.LEARNING_RATE
    page = report.render([result], tmp_path)
    tokens = rows["reward-model-rl"]["tokens"] + result["summary"]["reward_model"]["pair_tokens"]
    line = next(line for line in page.splitlines() if line.startswith("| warm start, pairs, reward model, GRPO |"))
    assert f"| {tokens / 1000:,.0f}k |" in line
    assert "of held-out pairs in the right order" in page
    assert "of its own in the last epoch" in page
    assert (tmp_path / "pipeline-quick.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("accuracies", "said"), [((0.3, 0.4, 0.2), "best at update 4 (0.400"), ((0.3, 0.4, 0.5), ""), ((0.3, 0.2, 0.1), "")]
)
def test_a_row_that_turns_is_told_as_such(accuracies, said):
    points = [{"step": 4 * i, "accuracy": accuracy} for i, accuracy in enumerate(accuracies)]
    sizes = {"samples": 2, "curve_prompts": 512}
    result = {"seeds": [{"rows": {"reward-model-rl": {"points": points}}}] * 2, "summary": {"sizes": sizes}}
    turn = pipeline.page._turn(result)
    assert said in turn
    assert bool(turn) == bool(said)
