"""pass@k and the pipeline: real runs, what they come to, and the pages."""

import json
from dataclasses import replace

import pytest

from benchmarks import passk, pipeline, report
from benchmarks.counted_reward import CountedReward
from benchmarks.method_runs import START
from benchmarks.passk.summary import summarise
from benchmarks.pipeline import reward_model
from benchmarks.worlds import WORLDS
from tests.campaigns import OddLengths, campaign, small  # noqa: F401 - a fixture
from tests.tiny import policy_dir


def test_pass_at_k_comes_of_real_runs(small, tmp_path, monkeypatch):  # noqa: F811
    preset = replace(passk.PRESETS["quick"], steps=8, held_out=8, curve_prompts=4, samples=2)
    monkeypatch.setitem(passk.PRESETS, "quick", preset)
    result = passk.run("quick", campaign(tmp_path))
    assert result["summary"]["sizes_of_k"] == ["1", "2", "4"]
    assert set(result["summary"]["rows"]) == {START, "grpo"}
    page = report.render([result], tmp_path)
    assert "| policy | pass@1 | pass@2 | pass@4 |" in page
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
    pass_at = dict(zip(("1", "64"), shares, strict=True))
    return {"spec": {"row": row, "start": start, "seed": seed}, "points": [{"pass_at": pass_at}]}


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
    assert "over_grpo" not in summary["grpo"]
    assert summary["dapo"]["over_grpo"]["1"]["mean"] == pytest.approx(0.1)
    reading = passk.page._reading({"rows": summary}, {"grpo": "GRPO", "dapo": "DAPO"})
    assert "- GRPO against the warm start: above at k = 1; below at k = 64" in reading


@pytest.fixture
def few_pairs(monkeypatch):
    monkeypatch.setattr(reward_model, "CountedReward", OddLengths)
    monkeypatch.setattr(pipeline, "PROMPTS_PER_UPDATE", 3)
    monkeypatch.setattr(reward_model, "HELD_OUT_PROMPTS", 8)
    monkeypatch.setattr(reward_model, "EPOCHS", 8)


class LowLastDigit(CountedReward):
    """Rewards completions whose last token before EOS is one of the lower half of the vocabulary."""

    def __call__(self, completions, completion_ids, answer, **kwargs):
        super().__call__(completions=completions, completion_ids=completion_ids, answer=answer)
        return [float(ids[-2:][0] < 10) for ids in completion_ids]


def test_a_reward_model_learns_what_its_pairs_prefer(few_pairs, tmp_path, monkeypatch):
    monkeypatch.setattr(reward_model, "CountedReward", LowLastDigit)
    monkeypatch.setattr(reward_model, "HELD_OUT_PROMPTS", 128)
    monkeypatch.setattr(reward_model, "EPOCHS", 15)
    monkeypatch.setattr(reward_model, "LEARNING_RATE", 1e-2)
    model = reward_model.train_reward_model(policy_dir().name, WORLDS["playground"], 0, tmp_path, 256)
    assert model.figures["pairs"] > 30
    assert model.figures["pair_tokens"] > 256 * 8
    assert model.figures["reward_model_accuracy"] > 0.75  # of some 50 pairs: chance is .5, with a deviation of .07
    # A completion's score does not depend on what it is padded with
    eos = model.tokenizer.eos_token_id
    alone = model.scores(["1+1="], [[5, 6, eos]])
    beside = model.scores(["1+1=", "1+1="], [[5, 6, eos], [5, 6, 7, 8, 9, 5, 6, eos]])
    assert beside[0] == pytest.approx(alone[0], abs=1e-5)


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
        ("scratch-rl-long", 24, False),
        ("reward-model-rl", 8, True),
    ]
    rows = result["summary"]["rows"]
    assert {name: row["difference"]["against"] for name, row in rows.items()} == {
        "warm-rl": START,
        "scratch-rl": "warm-rl",
        "scratch-rl-long": "warm-rl",
        "reward-model-rl": "warm-rl",
    }
    assert rows["scratch-rl-long"]["steps"] == 24
    assert result["configs"]["scratch-rl-long"]["max_steps"] == 24
    assert result["configs"]["warm-rl"]["max_steps"] == 8
    assert result["configs"]["reward-model"]["learning_rate"] == reward_model.LEARNING_RATE
    page = report.render([result], tmp_path)
    assert "| warm start, pairs, reward model, GRPO |" in page
    assert "of held-out pairs in the right order" in page
    assert (tmp_path / "pipeline-quick.png").stat().st_size > 10_000
