"""What all tables share: budgets of trials, paired differences, runs that resume, configurations that are accepted."""

import dataclasses
import json
import math
import time
from pathlib import Path

import pytest

from benchmarks import ablation, algorithms, on_policy, passk, pipeline
from benchmarks.__main__ import MEASURED, WITHOUT_GPU_PRESET
from benchmarks.algorithms.rows import METHODS, ON_POLICY_METHODS
from benchmarks.harness import dry_run, stored_runs, tables
from benchmarks.harness.comparisons import holm, paired_p_value
from benchmarks.harness.paired import differences, of_their_start
from benchmarks.harness.results import commit_here, write_result
from benchmarks.harness.run_spec import RunSpec
from benchmarks.harness.stored_runs import OutOfTime, run_all
from benchmarks.harness.tables import Campaign, reported_specs, run_table, start_specs, trial_specs
from benchmarks.harness.trials import TUNING_SEED, choose, combinations, wider_rates
from benchmarks.harness.worlds import WORLDS
from dapo_ext.playground import make_dataset
from tests.tiny import SMALL


TABLES = {
    "ablation": (ablation.METHODS, ablation.PRESETS),
    "algorithms": (METHODS, algorithms.PRESETS),
    "on_policy": (ON_POLICY_METHODS, on_policy.PRESETS),
    "passk": (METHODS, passk.PRESETS),
    "pipeline": (pipeline.METHODS, pipeline.PRESETS),
}


# ---- Plans ----


@pytest.mark.parametrize("name", TABLES)
def test_every_row_of_a_full_table_has_as_many_trials_on_prompts_that_are_not_reported(name):
    methods, presets = TABLES[name]
    preset = presets["full"]
    trials = trial_specs(methods, preset)
    budgets = {row: sum(spec.row == row for spec in trials) for row in preset.methods}
    assert len(set(budgets.values())) == 1
    chosen = {row: combinations(methods[row], preset.rates, preset.knobs)[0] for row in preset.methods}
    reported = reported_specs(methods, preset, chosen, seeds=3)
    assert {spec.split for spec in trials} <= {"tuning"}
    assert {spec.split for spec in reported} == {"held_out"}
    assert TUNING_SEED not in {spec.seed for spec in reported}
    specs = start_specs(preset) + trials + reported
    assert len({spec.key for spec in specs}) == len(specs)
    # Six runs of every row over two warm starts, and the 1,024 prompts x 4 samples that are asked for
    runs = [(spec.start, spec.seed) for spec in reported if spec.row == preset.methods[-1]]
    assert len({seed for _, seed in runs}) == 6
    assert len({start for start, _ in runs}) == 2
    # The warm starts lie in the entries of runs, and more seeds leave those that there were as they are
    assert {(spec.start, spec.seed) for spec in start_specs(preset)} <= set(runs)
    assert reported == reported_specs(methods, preset, chosen, seeds=4)[: len(reported)]
    assert reported[-1].held_out >= 1024
    assert 2 * reported[-1].samples >= 4


@pytest.mark.parametrize("name", TABLES)
def test_curves_are_measured_between_generations(name):
    methods, presets = TABLES[name]
    for preset in presets.values():
        for row in preset.methods:
            updates = methods[row].settings.get("steps_per_generation", 1)
            assert preset.evaluate_every % updates == preset.steps % updates == 0


@pytest.mark.parametrize("name", ["ablation", "algorithms", "on_policy"])
def test_the_token_budget_is_that_of_trials_and_reported_runs(name):
    methods, presets = TABLES[name]
    for preset in presets.values():
        chosen = {row: combinations(methods[row], preset.rates, preset.knobs)[0] for row in preset.methods}
        specs = trial_specs(methods, preset) + start_specs(preset) + reported_specs(methods, preset, chosen, seeds=1)
        assert {spec.token_budget for spec in specs} == {preset.token_budget}
        assert preset.token_budget > 0


@pytest.mark.parametrize("name", list(WORLDS))
def test_no_held_out_prompt_is_tuned_on(name):
    splits = [set(WORLDS[name].dataset(split, 512)["prompt"]) for split in ("train", "tuning", "held_out")]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]


def test_the_default_world_is_the_playground_that_results_are_committed_for():
    assert WORLDS["playground"].dataset("held_out", 64)["prompt"] == make_dataset("held_out", 64)["prompt"]
    assert WORLDS["playground"].warm_start_dir(Path("starts"), 3) == Path("starts/seed3")


def test_a_world_makes_its_own_warm_start(tmp_path):
    options = {**WORLDS["gpu-redo"].warm_start, "steps": 1, "policy": {**SMALL, "max_length": 640}}
    path = dataclasses.replace(WORLDS["gpu-redo"], warm_start=options).make_warm_start(tmp_path, 2)
    assert path == tmp_path / "gpu-redo-seed2"
    settings = json.loads((path / "warm_start.json").read_text())
    assert settings["redo_rate"] == 0.4
    assert settings["max_terms"] == WORLDS["gpu-redo"].max_terms


@pytest.mark.parametrize(
    ("name", "preset"),
    [(n, p) for n in MEASURED for p in ("quick", "full", "gpu") if p != "gpu" or n not in WITHOUT_GPU_PRESET],
)
def test_a_dry_run_builds_every_configuration(name, preset, capsys):
    built = dry_run.dry_run(name, preset)
    assert len(built) >= 1
    if preset == "gpu":
        assert all(config.bf16 for config in built)
    assert "Nothing was trained" in capsys.readouterr().out


def test_a_dry_run_names_the_row_that_is_refused(monkeypatch):
    config = METHODS["dapo"].config
    monkeypatch.setattr(
        dry_run,
        "planned",
        lambda name, preset: [("row of mine", config, {"use_cpu": True, "bf16": False, "generation_budget": 0.5})],
    )
    with pytest.raises(ValueError, match=r"row of mine.*generation_budget"):
        dry_run.dry_run("ablation", "quick")


# ---- Choices and differences ----


def trial(row, rate, accuracy, split="tuning", **knob):
    spec = {"row": row, "split": split, "tried": {"learning_rate": rate, **knob}}
    return {"spec": spec, "points": [{"accuracy": 0.9}, {"accuracy": accuracy}]}


def test_the_best_trial_chooses_and_of_equals_the_smaller_rate_and_the_first_knob():
    trials = [
        trial("grpo", 3e-4, 0.5, epsilon=0.2),
        trial("grpo", 1e-4, 0.5, epsilon=0.2),
        trial("grpo", 1e-4, 0.5, epsilon=0.4),
        trial("dapo", 1e-4, 0.3),
        trial("dapo", 3e-4, 0.6),
    ]
    assert choose(trials) == {"grpo": {"learning_rate": 1e-4, "epsilon": 0.2}, "dapo": {"learning_rate": 3e-4}}


def test_nothing_is_chosen_by_a_reported_run():
    with pytest.raises(ValueError, match="held_out"):
        choose([trial("grpo", 1e-4, 0.9, split="held_out")])


def test_a_grid_is_widened_at_the_edge_that_was_chosen_to_five_values_at_most():
    assert wider_rates((1e-4, 3e-4, 9e-4), [3e-4, 3e-4]) == (1e-4, 3e-4, 9e-4)
    assert wider_rates((1e-4, 3e-4, 9e-4), [3e-4, 9e-4]) == (1e-4, 3e-4, 9e-4, 2.7e-3)
    assert wider_rates((1e-4, 3e-4, 9e-4, 2.7e-3), [1e-4, 2.7e-3]) == (3.33e-5, 1e-4, 3e-4, 9e-4, 2.7e-3)
    assert wider_rates((1, 2, 3, 4, 5), [1, 5]) == (1, 2, 3, 4, 5)
    assert wider_rates((1e-4, 3e-4), [1e-4]) == (1e-4, 3e-4)  # nothing but edges


def test_all_rows_get_the_wider_grid_and_the_warm_starts_are_made_at_once(monkeypatch, tmp_path):
    asked = []
    best = {"grpo": 2.7e-3, "dapo": 3e-4}

    def carry_out(specs, work, store, warm_starts, jobs, deadline):
        asked.append(specs)
        return [
            {
                "spec": dataclasses.asdict(spec),
                "points": [{"accuracy": -abs(math.log(spec.changes["learning_rate"] / best[spec.row]))}]
                if spec.row in best
                else [],
                "commit": "abc",
            }
            for spec in specs
        ]

    monkeypatch.setattr(tables, "run_all", carry_out)
    preset = dataclasses.replace(algorithms.PRESETS["full"], methods=("grpo", "dapo"), rates=(1e-4, 3e-4, 9e-4))
    runs = run_table(METHODS, preset, None, Campaign(str(tmp_path / "a.json"), 1, 1, str(tmp_path)))
    # 9e-4 is the edge, then 2.7e-3 is; with five values the grid stays
    assert runs.sizes["rates"] == (1e-4, 3e-4, 9e-4, 2.7e-3, 8.1e-3)
    trials = [spec for spec in asked[-2] if spec.split == "tuning"]
    assert sum(spec.row == "grpo" for spec in trials) == sum(spec.row == "dapo" for spec in trials) == 5 * 4
    assert {name: config["learning_rate"] for name, config in runs.configs.items()} == best
    assert {spec.start for spec in asked[0]} == {0, 1}
    assert set(runs.commits) == {"abc"}


def test_a_result_names_all_commits_it_is_made_of(tmp_path):
    written = write_result(tmp_path / "a.json", "algorithms", "quick", {}, [], {}, ["abc", "abc", None, "def"])
    assert written["commit"] == "abc, unknown, def"
    assert written["machine"].keys() >= {"cpu", "cores"}


def test_differences_are_paired_by_run_and_corrected_together():
    values = {
        "a": {(0, 0): 0.1, (0, 1): 0.2, (1, 0): 0.4},
        "b": {(0, 1): 0.5, (0, 0): 0.3},
        "c": {(0, 0): 0.1, (0, 1): 0.3, (1, 0): 0.8},
    }
    found = differences({"b": (values["b"], values["a"]), "c": (values["c"], values["a"])})
    assert found["b"]["mean"] == pytest.approx(0.25)
    assert found["c"]["values"] == 3
    p_values = [paired_p_value([0.3, 0.2]), paired_p_value([0.0, 0.1, 0.4])]
    assert [found[row]["p_holm"] for row in ("b", "c")] == pytest.approx(holm(p_values))
    assert of_their_start({(0, 0): 0.1, (1, 0): 0.2}, values["c"]) == {(0, 0): 0.1, (0, 1): 0.1, (1, 0): 0.2}


# ---- Carrying out runs ----


def work(spec, start):
    return {"points": [{"accuracy": 0.5, "tokens": 1, "seconds": 1.0}], "start": str(start)}


@pytest.fixture
def here(monkeypatch):
    """Runs in threads of this process, and no warm starts."""
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(stored_runs, "ProcessPoolExecutor", lambda jobs, mp_context: ThreadPoolExecutor(jobs))
    monkeypatch.setattr(stored_runs, "_warm_start", lambda start, warm_starts: None)


def test_a_campaign_out_of_time_stops_between_runs_and_goes_on_where_it_was(here, tmp_path):
    specs = [RunSpec("grpo", 0, seed, 4, 4) for seed in range(4)]
    done = run_all(specs[:2], work, tmp_path / "store", tmp_path, 1)
    assert done[0]["start"] == str(tmp_path / "seed0")
    assert done[0]["commit"] == commit_here()
    with pytest.raises(OutOfTime, match="2 of 4 runs"):
        run_all(specs, work, tmp_path / "store", tmp_path, 1, deadline=time.monotonic() - 1)
    # A run as long as the longest so far would end too late
    path = tmp_path / "store" / f"{specs[0].key}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"wall_seconds": 1000.0}))
    with pytest.raises(OutOfTime, match="2 of 4 runs"):
        run_all(specs, work, tmp_path / "store", tmp_path, 1, deadline=time.monotonic() + 100)
    whole = run_all(specs, work, tmp_path / "store", tmp_path, 2, deadline=time.monotonic() + 2000)
    assert [record["spec"]["seed"] for record in whole] == [0, 1, 2, 3]


def test_a_stored_run_is_taken_for_what_it_is(here, tmp_path):
    spec = RunSpec("grpo", 0, 0, 4, 4)
    run_all([spec], work, tmp_path, tmp_path, 1)
    path = tmp_path / f"{spec.key}.json"
    record = json.loads(path.read_text())
    del record["spec"]["world"]  # of a run made before there were several
    path.write_text(json.dumps(record | {"mark": 1}))
    assert run_all([spec], work, tmp_path, tmp_path, 1)[0]["mark"] == 1
    with pytest.raises(ValueError, match="other settings"):
        run_all([dataclasses.replace(spec, steps=8)], work, tmp_path, tmp_path, 1)
