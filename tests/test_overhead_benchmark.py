"""The overhead: trainers that take turns and do what they do alone, ratios formed within a step, memory, growth."""

import statistics
import tempfile
from dataclasses import replace

import pytest

from benchmarks import memory, overhead, report
from benchmarks.harness.stored_runs import OutOfTime
from benchmarks.overhead import Preset, growth, turns
from benchmarks.overhead.growth import points
from benchmarks.overhead.memory import peak_memory
from benchmarks.overhead.rows import FEATURES, LAYOUT, SAME_WORK, TRL, Row, make_pairs, make_prompts, of_length
from benchmarks.page import memory as memory_page
from benchmarks.page.markdown import with_interval
from benchmarks.page.memory import COLUMNS
from dapo_ext.playground import build_policy
from tests.tiny import SMALL, policy_dir


TINY = {"per_device_train_batch_size": 8, "max_completion_length": 6}


def test_trainers_that_take_turns_do_the_same_work_to_the_bit(monkeypatch):
    built = {}
    build_row = turns.build_row

    def keep(row, *arguments):
        built[row.label] = build_row(row, *arguments)
        return built[row.label]

    monkeypatch.setattr(turns, "build_row", keep)
    monkeypatch.setattr(turns, "WARM_UP_STEPS", 1)
    seconds = turns.step_seconds(SAME_WORK, LAYOUT | TINY, 0, 2, SMALL, prompts=64)
    assert {name: len(each) for name, each in seconds.items()} == dict.fromkeys(SAME_WORK, 2)
    assert all(second > 0 for each in seconds.values() for second in each)
    trl, *others = (dict(trainer.model.named_parameters()) for trainer in built.values())
    for other in others:
        for name, parameter in trl.items():
            assert parameter.equal(other[name]), name


def test_a_trainer_that_fails_ends_the_measurement_instead_of_hanging(monkeypatch):
    def fail(completion_ids, **kwargs):
        raise RuntimeError("no reward today")

    monkeypatch.setattr(turns, "distinct", fail)
    with pytest.raises(RuntimeError, match="no reward today"):
        turns.step_seconds({TRL: SAME_WORK[TRL], "neutral": SAME_WORK["neutral"]}, LAYOUT | TINY, 0, 1, SMALL, 64)


def test_features_pairs_and_growth_are_measured_and_shown(tmp_path, monkeypatch):
    dataset = Row.dataset
    monkeypatch.setattr(Row, "dataset", lambda self, seed, size: dataset(self, seed, 64))
    monkeypatch.setattr(turns, "WARM_UP_STEPS", 0)
    monkeypatch.setattr(overhead, "FEATURES", {name: FEATURES[name] for name in (TRL, "all")})
    none = {"groups": (), "batches": (), "pools": (), "ranks": ()}
    preset = Preset(1, 1, 1, {"lengths": (4, 6), **none}, policy=SMALL, layout=TINY, memory_policy=SMALL)
    asked = []

    def peaks(rows, layout, seed, policy, prompts=None):
        asked.append((*rows, layout.get("max_completion_length")))
        return {name: 100.0 + 10 * number for number, name in enumerate(rows)}

    monkeypatch.setattr(overhead, "peak_memory", peaks)
    monkeypatch.setattr(growth, "peak_memory", peaks)
    monkeypatch.setitem(overhead.PRESETS, "quick", preset)
    out = str(tmp_path / "overhead.json")
    with pytest.raises(OutOfTime, match="before seed0-same-work"):
        overhead.run("quick", 1, out, deadline=0.0)
    result = overhead.run("quick", 1, out)
    # Everything is kept, so that nothing is measured again
    again = overhead.run("quick", 1, out, deadline=0.0)
    assert again["summary"] == result["summary"]
    monkeypatch.setitem(overhead.PRESETS, "quick", replace(preset, steps=2))
    with pytest.raises(ValueError, match="other settings"):
        overhead.run("quick", 1, out)
    assert set(result["summary"]["pairs"]) == {"pg-dpo_over_trl", "dynamic-pairs_over_trl"}
    assert [place["value"] for place in result["summary"]["growth"]] == [4, 6]
    page = report.render([result], tmp_path)
    assert "| all of `DAPOTrainer`'s at once |" in page
    assert "| `PGDPOTrainer`, dynamic pairs |" in page
    growth_line = next(line for line in page.splitlines() if line.startswith("| completion length | 6 |"))
    assert growth_line.endswith("| 100 | 110 | +10.0% |")
    assert asked[-2:] == [(TRL, "dapo", 4), (TRL, "dapo", 6)]
    assert "Peak memory is of a policy of 0M parameters" in page
    assert (tmp_path / "overhead-quick.png").stat().st_size > 5_000


def test_a_ratio_is_of_two_steps_taken_one_after_the_other():
    entries = [
        {
            "step_seconds": {"trl": [1.0, 2.0, 4.0], "neutral": [1.1, 2.4, 4.4]},
            "feature_seconds": {"trl": [1.0], "all": [2.0]},
            "pair_seconds": {"trl": [1.0], "pg-dpo": [1.5]},
            "growth": [{"axis": "ranks", "value": 2, "step_seconds": {"trl": [2.0], "dapo": [3.0]}}],
        }
    ]
    summary = overhead.summarise(entries)
    assert summary["neutral_over_trl"]["median"] == pytest.approx(statistics.median([1.1, 1.2, 1.1]))
    assert summary["features"]["all_over_trl"]["median"] == 2
    assert summary["growth"][0]["dapo_over_trl"]["median"] == 1.5
    assert summary["growth"][0]["trl_seconds"] == 2


def test_the_peak_of_a_process_holds_the_weights_their_gradients_and_the_optimizers_state():
    row, layout, prompts = SAME_WORK["replay"], LAYOUT | TINY, 64
    wide = {**SMALL, "intermediate_size": 65_536}
    parameters = sum(each.numel() for each in build_policy(0, **wide).parameters())
    peaks = peak_memory({"replay": row}, layout, 0, wide, prompts)
    assert 4 * 4 * parameters / 2**20 < peaks["replay"] < 100_000  # MiB; Adam has two states


def test_every_round_has_every_row_once_and_none_always_follows_the_same_other():
    order, turn = [], turns.Turns("abcd")
    for _ in range(40):
        order.append(turn.current)
        turn.pass_on()
    assert all(sorted(order[i : i + 4]) == list("abcd") for i in range(0, 40, 4))
    before_b = {order[i - 1] for i in range(1, 40) if order[i] == "b"}
    assert before_b >= set("acd")
    assert {order[i] for i in range(0, 40, 4)} == set("abcd")
    again = turns.Turns("abcd")
    assert again.current == order[0]  # every rank draws alike
    again.leave(order[0])
    assert again.current == order[1]
    for row in order[1:3]:
        again.leave(row)
    again.pass_on()
    assert again.current == order[3]


def test_pools_and_pairs_are_of_any_size():
    assert len(set(make_prompts(100_000, 0)["prompt"])) == 100_000
    pairs = make_pairs(32, 0)
    assert all(row["chosen"] != row["rejected"] for row in pairs)


def test_each_point_of_growth_changes_one_thing():
    places = points((40, 80), (4,), (16,), (1000,), (1, 2))
    assert [place.axis for place in places].count("completion length") == 2
    assert {len(place.changes) for place in places} <= {0, 1, 2}
    assert [place.ranks for place in places if place.axis == "ranks"] == [1, 2]


def test_enforced_lengths_are_reached_and_are_no_truncation():
    row = FEATURES["filtering"]
    with tempfile.TemporaryDirectory() as directory:
        layout = {**LAYOUT, **TINY, **of_length(7), "max_steps": 1, "logging_steps": 1, "seed": 0}
        trainer = turns.build_row(row, directory, layout, SMALL, 64, [])
        trainer.train()
    (logs, *_) = trainer.state.log_history
    assert logs["completions/min_length"] == logs["completions/max_length"] == 7
    assert logs["completions/clipped_ratio"] == 0
    assert logs["grad_norm"] > 0


def test_memory_goes_on_where_it_was_interrupted(tmp_path, monkeypatch):
    asked = []

    def held(directory, trainer, kind):
        asked.append((trainer, kind))
        return {"trainer": trainer, "kind": kind, "peak_mib": 1.0}

    monkeypatch.setattr(memory, "_in_its_own_process", held)
    monkeypatch.setattr(memory, "step_seconds", lambda *arguments: {kind: [1.0, 2.0] for kind in memory.KINDS})
    monkeypatch.setitem(memory.POLICIES, "quick", SMALL)
    out = str(tmp_path / "memory.json")
    with pytest.raises(OutOfTime, match="before dapo-full"):
        memory.run("quick", 1, out, deadline=0.0)
    memory.run("quick", 1, out)
    memory.run("quick", 1, out, deadline=0.0)
    assert asked == [(trainer, kind) for trainer in memory.TRAINERS for kind in memory.KINDS]


def test_kinds_of_training_take_turns_and_the_page_has_their_ratio_to_full_training(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "KINDS", {kind: memory.KINDS[kind] for kind in ("full", "lora")})
    monkeypatch.setitem(memory.SETTINGS, "max_completion_length", 4)
    seconds = memory.step_seconds(policy_dir().name, "dapo", 2)
    assert {kind: len(each) for kind, each in seconds.items()} == {"full": 2, "lora": 2}
    ratios = memory.over_full({"full": [1.0, 2.0, 4.0], "lora": [1.5, 3.0, 8.0]})
    assert ratios["lora"]["median"] == 1.5
    rows = [
        {"trainer": "dapo", "kind": kind, "trained_parameters": 10, **{f"{name}_mib": 1.0 for name in COLUMNS}}
        for kind in ("full", "lora")
    ]
    result = {
        "configs": {"policy": {"parameters": 10}},
        "seeds": [{"rows": rows, "step_seconds": {"dapo": seconds}}],
        "summary": {"step_time_over_full": {f"dapo/{kind}": ratio for kind, ratio in ratios.items()}},
    }
    page = memory_page.body(result, tmp_path)
    assert "| DAPO, full | 10 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | 1 |" in page
    assert f"| DAPO, LoRA | 10 | 1.0 | 1.0 | 1.0 | 1.0 | 1.0 | {with_interval(ratios['lora'])} |" in page
