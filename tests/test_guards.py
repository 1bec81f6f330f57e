"""Runs that go wrong on purpose, each in one of the usual ways, and what the guards say of them."""

import logging
import math
import re
from pathlib import Path

import pytest
from datasets import Dataset
from trl import SFTConfig

from dapo_ext import TrainingGuards
from dapo_ext.reporting.guards import symptoms_of
from dapo_ext.reporting.symptoms import HELD_OUT_FALL, WINDOW, HeldOutFall, OutOfBounds
from tests.pg_tiny import pg_config, pg_trainer
from tests.tiny import NEUTRAL, dapo_config, dapo_trainer, distinct, logged, prompts, trl_trainer
from tests.tiny_pairs import pairs, pg_dpo_config, pg_dpo_trainer


STEEP = {"learning_rate": 3e-2, "max_steps": 30}
# Updates of the same generation, far enough apart to meet the clip
OFF_POLICY = {"learning_rate": 1e-1, "max_steps": 24, "num_iterations": 4}


def warnings_of(caplog) -> list[str]:
    records = [record for record in caplog.records if record.name == "dapo_ext.reporting.guards"]
    return [record.getMessage().removeprefix("[RANK 0] ") for record in records]


def guarded(**trainer_args) -> dict:
    return {"callbacks": [TrainingGuards()], **trainer_args}


def brevity(completion_ids, **kwargs) -> list[float]:
    return [-float(len(ids)) for ids in completion_ids]


def low_digits(completion_ids, **kwargs) -> list[float]:
    """Share of tokens among the first of the vocabulary: learned by a policy that says nothing else any more."""
    return [sum(token < 6 for token in ids) / len(ids) for ids in completion_ids]


def collapse(tmp_path):
    return dapo_trainer(tmp_path, low_digits, trainer_args=guarded(), **STEEP, **NEUTRAL)


def drift(tmp_path):
    changes = {"learning_rate": 3e-3, "max_steps": 60, "max_completion_length": 24}
    return dapo_trainer(tmp_path, brevity, trainer_args=guarded(), **changes, **NEUTRAL)


def truncate(tmp_path):
    return dapo_trainer(tmp_path, trainer_args=guarded(), max_completion_length=2, max_steps=24, **NEUTRAL)


def clip_tokens(tmp_path):
    return trl_trainer(tmp_path, distinct, trainer_args=guarded(), **OFF_POLICY)


def clip_sequences(tmp_path):
    return pg_trainer(tmp_path, distinct, trainer_args=guarded(), pg_beta=1.0, epsilon=0.05, **OFF_POLICY, **NEUTRAL)


def clip_pairs(tmp_path):
    return pg_dpo_trainer(tmp_path, pairs(8), guarded(), learning_rate=1e-2, max_steps=60)


def leave_the_reference(tmp_path):
    return dapo_trainer(tmp_path, low_digits, trainer_args=guarded(), beta=1e-6, **STEEP, **NEUTRAL)


FALLS = {
    "entropy collapse": ("entropy", collapse),
    "length drift": ("completions/mean_length", drift),
    "truncation": ("completions/clipped_ratio", truncate),
    "clipping (tokens)": ("clip_ratio/region_mean", clip_tokens),
    "clipping (sequences)": ("clip_ratio/region_mean", clip_sequences),
    "clipping of rejected answers": ("pg_dpo/rejected_clipped_low", clip_pairs),
    "distance from the reference": ("kl", leave_the_reference),
}


@pytest.mark.parametrize(("name", "metric", "start"), [(name, *fall) for name, fall in FALLS.items()], ids=list(FALLS))
def test_a_symptom_is_said_once_with_metric_and_remedy(tmp_path, caplog, name, metric, start):
    trainer = start(tmp_path)
    with caplog.at_level(logging.WARNING, logger="dapo_ext.reporting.guards"):
        trainer.train()
    said = [warning for warning in warnings_of(caplog) if f"the mean of `{metric}`" in warning]
    assert len(said) == 1
    remedies = {symptom.metric: symptom.remedy for symptom in symptoms_of(trainer.args, "eval_reward")}
    assert said[0].endswith(remedies[metric])
    assert said[0].lower().startswith(name.split(" (")[0])
    step = int(re.search(r"at step (\d+):", said[0]).group(1))
    values = [entry[metric] for entry in trainer.state.log_history if metric in entry and entry["step"] <= step]
    assert f"is {sum(values[-WINDOW:]) / WINDOW:.3g}," in said[0]


def memory(completion_ids, sign, **kwargs) -> list[float]:
    """Pays for low tokens on the training prompts and for the others on the held-out ones."""
    return [each * value for each, value in zip(sign, low_digits(completion_ids), strict=True)]


def with_sign(size: int, sign: float) -> Dataset:
    return prompts(size).add_column("sign", [sign] * size)


def test_a_held_out_reward_that_falls_while_the_training_reward_rises(tmp_path, caplog):
    trainer = dapo_trainer(
        tmp_path,
        memory,
        with_sign(64, 1.0),
        guarded(eval_dataset=with_sign(16, -1.0)),
        **STEEP,
        **NEUTRAL,
        eval_strategy="steps",
        eval_steps=5,
        per_device_eval_batch_size=16,
    )
    with caplog.at_level(logging.WARNING, logger="dapo_ext.reporting.guards"):
        trainer.train()
    said = [warning for warning in warnings_of(caplog) if "overfitting of the reward" in warning.lower()]
    held_out = logged(trainer, "eval_reward")
    assert len(said) == 1
    assert "keep the checkpoint of the best evaluation" in said[0]
    assert f"`eval_reward` has fallen from {held_out[0]:.3g} to {sum(held_out[1:3]) / 2:.3g}" in said[0]


@pytest.mark.parametrize("start", [dapo_trainer, pg_trainer, trl_trainer])
def test_a_run_in_which_nothing_happens_is_left_in_peace(tmp_path, caplog, start):
    changes = {} if start is trl_trainer else NEUTRAL
    trainer = start(
        tmp_path, trainer_args=guarded(), learning_rate=0.0, max_steps=24, max_completion_length=64, **changes
    )
    with caplog.at_level(logging.WARNING, logger="dapo_ext.reporting.guards"):
        trainer.train()
    assert len(logged(trainer, "entropy")) > WINDOW
    assert not warnings_of(caplog)


def test_a_resumed_run_does_not_say_it_again(tmp_path, caplog):
    saving = {"save_strategy": "steps", "save_steps": 22}
    with caplog.at_level(logging.WARNING, logger="dapo_ext.reporting.guards"):
        dapo_trainer(
            tmp_path, trainer_args=guarded(), max_completion_length=2, max_steps=22, **NEUTRAL, **saving
        ).train()
        assert len(warnings_of(caplog)) == 1
        caplog.clear()
        trainer = dapo_trainer(
            tmp_path, trainer_args=guarded(), max_completion_length=2, max_steps=26, **NEUTRAL, **saving
        )
        trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 26
    assert not warnings_of(caplog)


def feed(symptom, metric: str, values: list[float]) -> list[int]:
    """Positions of the values at which the symptom is there."""
    return [i for i, value in enumerate(values) if symptom.observe({metric: value}) is not None]


def test_a_held_out_metric_that_is_not_logged_is_said_without_a_remedy(tmp_path, caplog):
    trainer = dapo_trainer(
        tmp_path,
        trainer_args={"callbacks": [TrainingGuards("eval_rewards/odd/mean")], "eval_dataset": prompts(8)},
        **NEUTRAL,
        eval_strategy="steps",
        eval_steps=1,
        max_steps=2,
        per_device_eval_batch_size=8,
    )
    with caplog.at_level(logging.WARNING, logger="dapo_ext.reporting.guards"):
        trainer.train()
    (said,) = warnings_of(caplog)
    assert said.endswith("it is not looked for, since the evaluation logs no `eval_rewards/odd/mean`.")


def test_a_drift_is_that_of_two_means_of_ten():
    def watch(values):
        return feed(OutOfBounds("drift", "m", "", low=0.5, high=2.0, relative=True), "m", values)

    assert watch([1.0] * 10 + [3.0] * 10) == [15, 16, 17, 18, 19]  # 5 of 1 and 5 of 3 have mean 2, which is allowed
    assert watch([1.0] * 10 + [0.0] * 6) == [15]
    assert watch([1.0] * 9 + [math.nan] * 20 + [1.0]) == []
    assert watch([9.0] * 9) == []


def fall(spread_metric: str | None = "eval_reward_std") -> HeldOutFall:
    return HeldOutFall("fall", "eval_reward", "", "reward", spread_metric)


def evaluations(held_out: list[float], train: list[float], std: float = 1.0) -> list[int]:
    symptom = fall()
    found = []
    for i, (value, reward) in enumerate(zip(held_out, train, strict=True)):
        for _ in range(WINDOW):
            assert symptom.observe({"reward": reward}) is None
        if symptom.observe({"eval_reward": value, "eval_reward_std": std, "eval_runtime": 1.0}) is not None:
            found.append(i)
    return found


def test_a_fall_needs_two_evaluations_a_margin_and_a_rising_training_reward():
    low = 1 - HELD_OUT_FALL - 0.01
    rising = [0.0, 0.1, 0.2, 0.3]
    assert evaluations([1.0, low, low, 1.0], rising) == [2]
    assert evaluations([0.0, 1.0, low, low], rising) == [3]
    assert evaluations([1.0, low + 0.02, low + 0.01, low + 0.01], rising) == []
    assert evaluations([1.0, low, low, low], rising[::-1]) == []
    assert evaluations([1.0, low, low, low], rising, std=2.0) == []
    assert evaluations([1.0, low, low, low], rising, std=math.nan) == []


def test_evaluation_datasets_are_told_apart():
    """A hard one that improves beside an easy one that stands still: TRL logs both under one name."""
    symptom = fall()
    for hard in (0.3, 0.4, 0.5, 0.6):
        symptom.observe({"reward": hard})
        for name, value in (("easy", 0.9), ("hard", hard)):
            logs = {"eval_reward": value, "eval_reward_std": 0.1, f"eval_{name}_runtime": 1.0}
            assert symptom.observe(logs) is None


def test_pairs_are_judged_by_the_spread_of_a_share():
    def is_found(first: float, last: float) -> bool:
        symptom = fall(spread_metric=None)
        found = None
        for i, value in enumerate([first, last, last]):
            for _ in range(WINDOW):
                symptom.observe({"reward": i / 10})
            found = symptom.observe({"eval_reward": value, "eval_runtime": 1.0})
        return found is not None

    assert is_found(1.0, 0.9)
    assert not is_found(1.0, 0.99)
    assert is_found(0.6, 0.49)
    assert not is_found(0.6, 0.51)


def test_metrics_of_nothing_are_none_and_say_nothing(tmp_path, caplog):
    """Where no completion of a log has a value, the host logs None."""

    def unscored_at_first(completion_ids, trainer_state, **kwargs):
        return [None if trainer_state.global_step < 8 else 1.0] * len(completion_ids)

    trainer = dapo_trainer(tmp_path, unscored_at_first, trainer_args=guarded(), max_steps=12, **NEUTRAL)
    trainer.train()
    assert trainer.state.global_step == 12
    assert None in logged(trainer, "reward")
    assert not warnings_of(caplog)


def test_a_metric_that_is_not_logged_is_named(tmp_path, caplog):
    trainer = dapo_trainer(
        tmp_path,
        trainer_args={"callbacks": [TrainingGuards(held_out_metric="eval_rewards/odd")], "eval_dataset": prompts(16)},
        eval_strategy="steps",
        eval_steps=1,
        per_device_eval_batch_size=16,
        max_steps=3,
        **NEUTRAL,
    )
    with caplog.at_level(logging.WARNING, logger="dapo_ext.reporting.guards"):
        trainer.train()
    assert [each for each in warnings_of(caplog) if "the evaluation logs no `eval_rewards/odd`" in each]


def test_a_trainer_whose_metrics_mean_something_else_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"`callbacks='TrainingGuards'` is refused: what a trainer with SFTConfig logs"
    ):
        symptoms_of(SFTConfig(str(tmp_path), use_cpu=True, bf16=False, report_to="none"), "eval_reward")


def test_another_metric_can_be_the_held_out_one(tmp_path, caplog):
    """A verifier without weight beside the reward that is trained on."""
    trainer = dapo_trainer(
        tmp_path,
        [low_digits, memory],
        with_sign(64, 1.0),
        {
            "callbacks": [TrainingGuards(held_out_metric="eval_rewards/memory/mean")],
            "eval_dataset": with_sign(16, -1.0),
        },
        **STEEP,
        **NEUTRAL,
        reward_weights=[1.0, 0.0],
        eval_strategy="steps",
        eval_steps=5,
        per_device_eval_batch_size=16,
    )
    with caplog.at_level(logging.WARNING, logger="dapo_ext.reporting.guards"):
        trainer.train()
    assert sum("`eval_rewards/memory/mean` has fallen" in warning for warning in warnings_of(caplog)) == 1


@pytest.mark.parametrize("config", [dapo_config, pg_config, pg_dpo_config])
def test_the_documented_table_is_what_is_looked_for(config, tmp_path):
    rows = (Path(__file__).parents[1] / "docs" / "guards.md").read_text().splitlines()
    for symptom in symptoms_of(config(tmp_path), "eval_reward"):
        row = next(row for row in rows if row.startswith(f"| {symptom.name} |") and row.endswith(f"{symptom.remedy} |"))
        assert f"| `{symptom.metric}`" in row
        if isinstance(symptom, OutOfBounds):
            assert all(f"{bound:g}" in row for bound in (symptom.low, symptom.high) if abs(bound) != math.inf)
