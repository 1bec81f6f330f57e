"""Faults through the real trainers. docs/faults.md says what becomes of each; nothing here may train on garbage."""

import asyncio
import errno
import logging
import math
import os
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import trl
from datasets import Dataset, IterableDataset

from dapo_ext.refusals import prompt_lengths
from dapo_ext.refusals.prompt_lengths import context_length
from dapo_ext.resume.checkpoint_manifest import open_manifest
from tests.pg_tiny import pg_trainer
from tests.tiny import dapo_trainer, logged, odd_length, prompts, weights
from tests.tiny_pairs import pairs, pg_dpo_trainer


ON_POLICY = {
    "DAPO": dapo_trainer,
    "PG-GRPO": pg_trainer,
    "PG-GRPO, dynamic": lambda *args, **kwargs: pg_trainer(*args, **{"dynamic_sampling": True, **kwargs}),
}
on_policy = pytest.mark.parametrize("start", ON_POLICY.values(), ids=ON_POLICY)


def returning(value, in_async: bool = False):
    """A reward function that returns `value`, or what `value` makes of the completions."""

    def faulty_reward(completion_ids, **kwargs):
        return value(completion_ids) if callable(value) else value

    async def faulty_async_reward(completion_ids, **kwargs):
        await asyncio.sleep(0)
        return faulty_reward(completion_ids)

    return faulty_async_reward if in_async else faulty_reward


def raises_and_keeps_the_weights(trainer, match: str, error: type[Exception] = ValueError) -> Exception:
    before = weights(trainer)
    with pytest.raises(error, match=match) as raised:
        trainer.train()
    assert torch.equal(weights(trainer), before)
    return raised.value


# ---- Rewards ----


def lost_server(completion_ids):
    raise ConnectionError("the reward server is gone")


@on_policy
@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
def test_a_reward_that_raises_keeps_its_error_and_names_the_function(tmp_path, start, in_async):
    trainer = start(tmp_path, returning(lost_server, in_async))
    error = raises_and_keeps_the_weights(trainer, "the reward server is gone", ConnectionError)
    (note,) = error.__notes__
    assert f"'{'faulty_async_reward' if in_async else 'faulty_reward'}' on rank 0, after step 0" in note
    assert "return None" in note


WRONG_RETURNS = {
    "None": (None, r"returned None \(NoneType\) instead of rewards"),
    "a number": (1.0, r"returned 1\.0 \(float\) instead of rewards"),
    "a string": ("1.0", r"returned '1\.0' \(str\) instead of rewards"),
    "a dict": ({"reward": 1.0}, r"returned \{'reward': 1\.0\} \(dict\) instead of rewards"),
    "a scalar tensor": (torch.tensor(1.0), r"returned 1\.0 \(float\) instead of rewards"),
    "too few": (
        lambda ids: [1.0] * (len(ids) - 1),
        r"returned 7 rewards for 8 completions|returned 3 rewards for 4|15",
    ),
    "too many": (lambda ids: [1.0] * (len(ids) + 1), r"returned 9 rewards for 8 completions|returned 5 rewards|17"),
    "none": ([], "returned 0 rewards for"),
    "strings": (lambda ids: ["0.5"] * len(ids), r"returned '0\.5' \(str\) as the reward of completion 0"),
    "a list": (lambda ids: [[1.0]] * len(ids), r"returned \[1\.0\] \(list\) as the reward of completion 0"),
    "a matrix": (lambda ids: torch.zeros(len(ids), 1), r"returned \[0\.0\] \(list\) as the reward of completion 0"),
    "complex": (lambda ids: [1j] * len(ids), r"returned 1j \(complex\) as the reward of completion 0"),
    "inf": (
        lambda ids: [0.0, math.inf] + [0.0] * (len(ids) - 2),
        r"returned inf \(float\) as the reward of completion 1",
    ),
    "-inf": (lambda ids: np.full(len(ids), -np.inf), r"returned -inf \(float\) as the reward of completion 0"),
    "too large for float32": (
        lambda ids: [1e39] * len(ids),
        r"returned 1e\+39 \(float\) as the reward of completion 0",
    ),
}


@pytest.mark.parametrize(("value", "message"), WRONG_RETURNS.values(), ids=WRONG_RETURNS)
def test_what_is_no_list_of_numbers_is_an_error_that_names_function_and_value(tmp_path, value, message):
    trainer = dapo_trainer(tmp_path, returning(value))
    raises_and_keeps_the_weights(trainer, f"The reward function 'faulty_reward' {message}")


@pytest.mark.parametrize("case", ["None", "too few", "strings", "inf"])
def test_async_rewards_and_pg_grpo_are_checked_likewise(tmp_path, case):
    value, message = WRONG_RETURNS[case]
    trainer = pg_trainer(tmp_path, [odd_length, returning(value, in_async=True)])
    raises_and_keeps_the_weights(trainer, f"The reward function 'faulty_async_reward' {message}")


@pytest.mark.parametrize(
    "form",
    [tuple, np.array, torch.tensor, iter, lambda values: [bool(v) for v in values], lambda v: [Fraction(x) for x in v]],
    ids=["tuple", "array", "tensor", "iterator", "booleans", "fractions"],
)
def test_every_form_of_numbers_trains_as_a_list_does(tmp_path, form):
    plain = dapo_trainer(tmp_path / "list", odd_length, max_steps=1)
    plain.train()
    other = dapo_trainer(tmp_path / "other", returning(lambda ids: form(odd_length(ids))), max_steps=1)
    other.train()
    assert torch.equal(weights(plain), weights(other))


def test_a_long_value_is_not_printed_whole(tmp_path):
    trainer = dapo_trainer(tmp_path, returning("a secret prompt " * 100))
    assert len(str(raises_and_keeps_the_weights(trainer, "instead of rewards"))) < 300


@on_policy
@pytest.mark.parametrize("missing", [None, math.nan], ids=str)
def test_missing_rewards_are_counted(tmp_path, start, missing):
    """Every fourth completion is unscored; TRL's group statistics leave it out."""
    trainer = start(
        tmp_path, returning(lambda ids: [missing if i % 4 == 3 else float(i % 4) for i in range(len(ids))]), max_steps=2
    )
    trainer.train()
    assert set(logged(trainer, "rewards/unscored")) == {0.25}
    assert all(math.isfinite(loss) for loss in logged(trainer, "loss"))


def test_nothing_but_missing_rewards_ends_in_good_order_and_moves_nothing(tmp_path):
    trainer = dapo_trainer(tmp_path, returning(lambda ids: [None] * len(ids)), generation_budget=2.0, weight_decay=0.1)
    before = weights(trainer)
    trainer.train()
    assert "fewer than two scored completions" in trainer.stop_reason
    assert logged(trainer, "rewards/unscored") == [1.0]
    assert torch.equal(weights(trainer), before)


@pytest.mark.parametrize("in_async", [False, True], ids=["sync", "async"])
def test_a_slow_reward_is_named_while_it_runs(tmp_path, monkeypatch, caplog, in_async):
    monkeypatch.setattr("dapo_ext.rewards.waiting.FIRST_NOTICE", 0.2)
    seen_before_the_end = []

    def slow(ids):
        time.sleep(1.0)
        seen_before_the_end.extend(
            record.message for record in caplog.records if record.name == "dapo_ext.rewards.waiting"
        )
        return odd_length(ids)

    trainer = dapo_trainer(tmp_path, returning(slow, in_async), max_steps=1)
    with caplog.at_level(logging.WARNING, logger="dapo_ext.rewards.waiting"):
        trainer.train()
    name = "faulty_async_reward" if in_async else "faulty_reward"
    expected = [
        f"The reward function '{name}' on rank 0 has been running for {s} seconds." for s in ("0.2", "0.4", "0.8")
    ]
    assert [message.removeprefix("[RANK 0] ") for message in seen_before_the_end[:3]] == expected


def test_a_quick_reward_is_not(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, logger="dapo_ext.rewards.waiting"):
        dapo_trainer(tmp_path, max_steps=1).train()
    assert not [record for record in caplog.records if record.name == "dapo_ext.rewards.waiting"]


# ---- Completions ----


def completions_of(tokens: list[int]):
    return lambda self, prompt_ids, *args, **kwargs: ([list(tokens) for _ in prompt_ids], None)


@on_policy
def test_completions_that_are_empty_are_the_end_token_and_train_on_nothing(tmp_path, start, monkeypatch):
    """All alike, so that no group is informative: with dynamic sampling training ends, else the advantages are 0."""
    budget = {} if start is pg_trainer else {"generation_budget": 2.0}
    trainer = start(tmp_path, odd_length, max_steps=2, beta=0.0, **budget)
    monkeypatch.setattr("trl.GRPOTrainer._generate_single_turn", completions_of([trainer._tokenizer.eos_token_id]))
    before = weights(trainer)
    trainer.train()
    assert torch.equal(weights(trainer), before)
    if trainer.sampler is not None:
        assert "had one other value throughout" in trainer.stop_reason


@on_policy
def test_completions_without_a_token_are_an_error_that_names_the_backend(tmp_path, start, monkeypatch):
    monkeypatch.setattr("trl.GRPOTrainer._generate_single_turn", completions_of([]))
    raises_and_keeps_the_weights(start(tmp_path), "generation backend returned .* without a token", RuntimeError)


@pytest.mark.parametrize("dynamic_sampling", [True, False])
def test_nothing_but_truncated_completions_moves_nothing(tmp_path, monkeypatch, dynamic_sampling):
    monkeypatch.setattr("trl.GRPOTrainer._generate_single_turn", completions_of([5, 6, 7]))
    budget = {"generation_budget": 2.0} if dynamic_sampling else {}
    trainer = dapo_trainer(
        tmp_path,
        lambda completion_ids, **kwargs: [float(i % 2) for i in range(len(completion_ids))],
        mask_truncated_completions=True,
        dynamic_sampling=dynamic_sampling,
        weight_decay=0.1,
        **budget,
    )
    before = weights(trainer)
    trainer.train()
    assert torch.equal(weights(trainer), before)
    assert set(logged(trainer, "completions/clipped_ratio")) == {1.0}
    if dynamic_sampling:
        assert "truncated and filtered" in trainer.stop_reason


# ---- Datasets ----


def refused(match: str):
    return pytest.raises(ValueError, match=rf"`train_dataset=.*` is refused: .*{match}.*\. Remedy: .*\.")


@on_policy
def test_datasets_that_fill_no_batch_are_refused(tmp_path, start):
    with refused("there are no prompts"):
        start(tmp_path, dataset=prompts(4).select([]))
    with refused("there are no prompts"):
        start(tmp_path, dataset=IterableDataset.from_generator(lambda: iter(())))
    with refused("a generation batch takes 4 prompts"):
        start(tmp_path, dataset=prompts(1))


def test_one_prompt_trains_where_a_batch_is_one_group(tmp_path):
    trainer = dapo_trainer(tmp_path, dataset=prompts(1), per_device_train_batch_size=4, steps_per_generation=1)
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.sampler.ledger.informative_groups == 4


def long_prompt(tokens: int) -> Dataset:
    return Dataset.from_list([*prompts(16).to_list(), {**prompts(1)[0], "prompt": "1" * tokens}])


def test_completions_without_a_limit_can_be_trained_on(tmp_path):
    """As the refusal of a punishment without a limit advises; the host's own default then ends a completion."""
    trainer = dapo_trainer(tmp_path, soft_overlong_cache=0, max_completion_length=None, max_steps=1)
    trainer.train()
    assert trainer.state.log_history[0]["completions/max_length"] > 8


@on_policy
def test_prompts_that_fill_the_context_are_refused_before_training(tmp_path, start, caplog):
    context = context_length(start(tmp_path).model.config)
    with refused(f"the first is row 16 with {context} tokens, where the model's context holds {context}"):
        start(tmp_path, dataset=long_prompt(context))
    with caplog.at_level(logging.WARNING, logger="dapo_ext.refusals.prompt_lengths"):
        start(tmp_path, dataset=long_prompt(context - 4))
    (warning,) = [record.message for record in caplog.records if record.name == "dapo_ext.refusals.prompt_lengths"]
    assert "1 of 17 prompts and max_completion_length=8 together exceed" in warning
    assert "Lower max_completion_length to 4" in warning


def test_few_prompts_are_held_as_tokens_at_a_time(tmp_path, monkeypatch):
    """Where a context is so short that all of a large pool have to be looked at."""
    sizes, tokenize = [], trl.GRPOTrainer._tokenize_prompts

    def watched(self, asked):
        sizes.append(len(asked))
        return tokenize(self, asked)

    monkeypatch.setattr("trl.GRPOTrainer._tokenize_prompts", watched)
    monkeypatch.setattr(prompt_lengths, "PROMPTS_AT_A_TIME", 5)
    with refused("the first is row 16 with 512 tokens"):
        dapo_trainer(tmp_path, dataset=long_prompt(512))
    assert sizes == [5, 5, 5, 2]


def test_prompts_of_an_iterable_dataset_are_refused_when_they_come(tmp_path):
    dataset = long_prompt(512).select(range(13, 17)).to_iterable_dataset()
    trainer = dapo_trainer(tmp_path, dataset=dataset, shuffle_dataset=False)
    raises_and_keeps_the_weights(trainer, r"`train_dataset='a prompt of 512 tokens'` is refused")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 256),
        ({"max_position_embeddings": 64, "rope_parameters": {"full": {"factor": 2.0}, "sliding": {}}}, 128),
        ({}, None),
    ],
)
def test_the_context_counts_stretched_positions(config, expected):
    class Config:
        def get_text_config(self):
            return self

    made = Config()
    vars(made).update(config)
    assert context_length(made) == expected


# ---- Saving, and the end by hand ----


TRAINERS = {
    "DAPO": lambda path, **changes: dapo_trainer(path, **changes),
    "PG-GRPO": lambda path, **changes: pg_trainer(path, gradient_accumulation_steps=4, **changes),
    "PG-DPO": lambda path, **changes: pg_dpo_trainer(path, **changes),
}
SAVING = {"save_strategy": "steps", "save_steps": 1, "max_steps": 3}
every_trainer = pytest.mark.parametrize("start", TRAINERS.values(), ids=TRAINERS)


def assert_resumes_from(checkpoint: Path, start, changes: dict) -> None:
    trainer = start(checkpoint.parent, **changes)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    whole = start(checkpoint.parent.with_name("uninterrupted"), **changes)
    whole.train()
    assert torch.equal(weights(trainer), weights(whole))


@every_trainer
@pytest.mark.parametrize("file", ["optimizer.pt", "trainer_state.json"])
def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, start, file, monkeypatch):
    """/dev/full refuses every byte, as a full disk does."""
    changes = {**SAVING, "gradient_accumulation_steps": 2} if start is TRAINERS["DAPO"] else SAVING
    trainer = start(tmp_path / "run", **changes)

    def fill_the_disk(folder):
        open_manifest(folder)
        if folder.name == "checkpoint-2":
            (folder / file).symlink_to("/dev/full")

    monkeypatch.setattr("dapo_ext.resume.exact_resume.open_manifest", fill_the_disk)
    with pytest.raises(Exception, match=r"(?i)no space left|unexpected pos|write|enforce") as error:
        trainer.train()
    (note,) = error.value.__notes__
    assert "while checkpoint-2 was written to" in note
    assert "Earlier checkpoints are untouched" in note
    assert f"resume_from_checkpoint={str(tmp_path / 'run' / 'checkpoint-1')!r}" in note
    if file == "optimizer.pt":
        assert_resumes_from(tmp_path / "run" / "checkpoint-1", start, {**changes, "save_strategy": "no"})


def test_a_run_folder_that_is_gone_does_not_hide_what_happened(tmp_path, monkeypatch):
    """At the first save there is nothing to resume from; later there may be, and is no more."""
    trainer = dapo_trainer(tmp_path / "run", **SAVING)
    monkeypatch.setattr(trainer, "_get_output_dir", lambda trial: str(tmp_path / "gone"))
    monkeypatch.setattr("dapo_ext.resume.exact_resume.open_manifest", lambda folder: folder.stat())
    for step in (1, 2):
        trainer._whole_checkpoint = tmp_path / "gone" / "checkpoint-1" if step == 2 else None
        trainer.state.global_step = step
        with pytest.raises(FileNotFoundError, match=f"checkpoint-{step}") as error:
            trainer._save_checkpoint(trainer.model, trial=None)
        (note,) = error.value.__notes__
        assert "cannot be looked at (No such file or directory)" in note
        assert "begin it anew with trainer.train()" in note
        assert "resume_from_checkpoint" not in note


@every_trainer
def test_a_read_only_folder_ends_the_run_and_leaves_the_last_checkpoint(tmp_path, start, monkeypatch):
    trainer = start(tmp_path / "run", **SAVING)
    make = os.makedirs

    def read_only(path, *args, **kwargs):
        if "checkpoint-2" in str(path):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        make(path, *args, **kwargs)

    monkeypatch.setattr(os, "makedirs", read_only)
    with pytest.raises(OSError, match="Read-only file system") as error:
        trainer.train()
    assert "make the folder writable" in error.value.__notes__[0]
    saved = sorted(path.name for path in (tmp_path / "run" / "checkpoint-1").iterdir())
    assert {"model.safetensors", "optimizer.pt", "trainer_state.json"} <= set(saved)


class InterruptedInARefill:
    """Ctrl-C in the second round of the third batch; the batches before are refilled as well."""

    __name__ = "reward"

    def __init__(self, interrupt: bool):
        self.interrupt, self.rounds = interrupt, 0

    def __call__(self, completion_ids, trainer_state, **kwargs):
        self.rounds = self.rounds + 1 if trainer_state.global_step == getattr(self, "step", None) else 1
        self.step = trainer_state.global_step
        if self.interrupt and self.step == 2 and self.rounds == 2:
            raise KeyboardInterrupt
        return [float(ids[0] in (4, 5)) for ids in completion_ids]


def test_ctrl_c_in_a_refill_reaches_the_user_and_leaves_the_last_checkpoint(tmp_path):
    def start(path, interrupt=False, **changes):
        return dapo_trainer(path, InterruptedInARefill(interrupt), gradient_accumulation_steps=2, **changes)

    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "run", interrupt=True, **SAVING).train()
    assert sorted(path.name for path in (tmp_path / "run").glob("c*")) == ["checkpoint-1", "checkpoint-2"]
    assert_resumes_from(tmp_path / "run" / "checkpoint-2", start, {**SAVING, "save_strategy": "no"})


# ---- Pairs ----


def test_pairs_that_fill_no_step_are_refused(tmp_path):
    with refused("there are no pairs"):
        pg_dpo_trainer(tmp_path, pairs(4).select([]))
    with refused("there are no pairs"):
        pg_dpo_trainer(tmp_path, IterableDataset.from_generator(lambda: iter(())))


def test_one_pair_trains(tmp_path):
    trainer = pg_dpo_trainer(tmp_path, pairs(1))
    trainer.train()
    assert trainer.state.global_step == 3


def test_a_pair_that_max_length_leaves_nothing_of_is_left_out_as_in_trl(tmp_path):
    rows = [*pairs(4).to_list(), {"prompt": "1" * 40, "chosen": "2", "rejected": "3"}]
    assert len(pg_dpo_trainer(tmp_path, Dataset.from_list(rows), max_length=16).train_dataset) == 4
