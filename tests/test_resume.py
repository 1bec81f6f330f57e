"""A run that was stopped anywhere goes on as if it had not been: to the bit, and the batches with it."""

import inspect
import json
import os

import pytest
import torch
from datasets import IterableDataset
from peft import LoraConfig
from transformers import Trainer, TrainerCallback
from trl import GRPOTrainer
from trl.trainer.callbacks import SyncRefModelCallback
from trl.trainer.utils import RepeatSampler

from dapo_ext.resume.logged_tables import pack_tables, unpack_tables
from tests.resume_trainers import LAYOUT, SAVING, dapo, fickle_reward, pg_dpo, pg_grpo
from tests.run_record import digest, record_of, watch_batches
from tests.tiny import dapo_trainer, logged, odd_length, policy, prompts
from tests.tiny_pairs import pairs, pg_dpo_trainer


def disturb() -> None:
    """What happens to the random state before a process resumes is nobody's business."""
    torch.rand(7)
    os.urandom(1)


def assert_same_run(make, tmp_path, steps) -> object:
    """Train without a stop; then resume at each of the steps, and compare everything."""
    whole = make(tmp_path / "whole")
    batches = watch_batches(whole)
    whole.train()
    expected = record_of(whole)
    for step in steps:
        resumed = make(tmp_path / "resumed")
        seen = watch_batches(resumed)
        disturb()
        resumed.train(resume_from_checkpoint=tmp_path / "whole" / f"checkpoint-{step}")
        assert record_of(resumed) == expected, step
        assert seen == {made: batch for made, batch in batches.items() if int(made) >= step}, step
    return whole


def test_every_step_is_a_place_to_resume_from(tmp_path):
    """Two epochs, two iterations over each generation, surplus that waits."""
    whole = assert_same_run(lambda folder: dapo(folder, seed=4), tmp_path, range(1, 17))
    assert whole.state.global_step == 16
    assert whole.state.epoch == 2
    assert max(logged(whole, "dynamic_sampling/staleness_max")) == 1
    assert max(logged(whole, "dynamic_sampling/rounds")) > 1


def test_every_step_of_dynamic_pairs_is_a_place_to_resume_from(tmp_path):
    """Two epochs, an adapter with dropout."""
    whole = assert_same_run(lambda folder: pg_dpo(folder, num_train_epochs=2), tmp_path, range(1, 9))
    assert whole.state.epoch == 2
    assert max(logged(whole, "dynamic_pairs/rounds")) > 1


def iterable(rows) -> IterableDataset:
    return IterableDataset.from_generator(lambda: iter(rows))


def lora() -> LoraConfig:
    return LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.3)


def sampling_switched_off(folder):
    """The host's own batches, and an adapter with dropout."""
    options = {**SAVING, **LAYOUT, "per_device_train_batch_size": 4, "dynamic_sampling": False}
    return dapo_trainer(folder, fickle_reward, prompts(10), {"model": policy(), "peft_config": lora()}, **options)


def three_passes_over_a_stream(folder):
    options = {**SAVING, **LAYOUT, "per_device_train_batch_size": 4, "max_steps": 20}
    rows = iterable(prompts(10).to_list())
    return dapo_trainer(folder, fickle_reward, rows, {"model": policy()}, **options)


def moving_reference(folder):
    """And weights of tokens, an entropy controller, and a table of completions, all of which have a state."""
    moving = {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1, "token_weighting": "entropy"}
    table = {"log_completions": True, "num_completions_to_print": 0, "use_adaptive_entropy": True}
    return dapo(folder, **moving, **table)


def test_what_else_has_a_state(tmp_path):
    # Estimates of pass rates, and checkpoints between two logs
    assert_same_run(lambda folder: pg_grpo(folder, logging_steps=3), tmp_path / "a", (2, 13, 16))
    assert_same_run(sampling_switched_off, tmp_path / "b", (5, 11))
    assert_same_run(three_passes_over_a_stream, tmp_path / "c", (11, 18))
    assert_same_run(moving_reference, tmp_path / "d", (3, 9))
    tables = [sorted((tmp_path / "d" / run / "completions").iterdir()) for run in ("whole", "resumed")]
    assert [path.read_bytes() for path in tables[0][9:]] == [path.read_bytes() for path in tables[1][-7:]]


def test_what_else_has_a_state_in_preference_training(tmp_path):
    def global_shuffle(folder):
        """Orders drawn from torch's own random state, and a reference that moves."""
        moving = {"sync_ref_model": True, "ref_model_sync_steps": 2}
        seedless = {"accelerator_config": {"use_seedable_sampler": False}}
        return pg_dpo_trainer(folder, pairs(13), {"model": policy()}, **SAVING, **moving, **seedless)

    def stream(folder):
        options = {**SAVING, "max_steps": 10, "dynamic_pairs": True}
        return pg_dpo_trainer(folder, iterable(pairs(13).to_list()), {"model": policy()}, **options)

    assert_same_run(global_shuffle, tmp_path / "a", (3, 6))
    assert_same_run(stream, tmp_path / "b", (3, 7))


def test_trls_own_order_is_what_is_found_again(tmp_path):
    """The uninterrupted run draws each epoch's order once, as TRL does; see tests/test_parity.py for the rest."""
    drawn = []
    original = RepeatSampler.__iter__

    def recorded(self):
        drawn.append(list(original(self)))
        return iter(drawn[-1])

    RepeatSampler.__iter__ = recorded
    try:
        trainer = dapo(tmp_path, save_steps=12, max_steps=20)
        trainer.train()
        expected, drawn[:] = list(drawn), []
        dapo(tmp_path, max_steps=20).train(resume_from_checkpoint=tmp_path / "checkpoint-12")
    finally:
        RepeatSampler.__iter__ = original
    assert len(expected) == 3
    assert expected[0] != expected[1]
    assert drawn == expected[1:]


def test_a_run_that_is_killed_after_its_last_checkpoint_makes_no_further_step(tmp_path):
    """Neither with a stream nor in the middle of an epoch, where the host makes one."""
    for dataset in (prompts(30), iterable(prompts(10).to_list())):
        options = {"save_strategy": "steps", "save_steps": 3, "max_steps": 3}
        dapo_trainer(tmp_path, odd_length, dataset, **options).train()
        resumed = dapo_trainer(tmp_path, odd_length, dataset, **options)
        resumed.train(resume_from_checkpoint=True)
        assert resumed.state.global_step == 3


class SavesBeforeTheStep(TrainerCallback):
    """What the host does on SIGTERM with `enable_jit_checkpoint`: a checkpoint between gradients and optimizer."""

    def __init__(self, step: int):
        self.step, self.trainer = step, None

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.trainer._save_checkpoint(self.trainer.model, trial=None)
            control.should_training_stop = True


@pytest.mark.parametrize("step", [4, 6])
def test_a_step_left_half_way_begins_anew(tmp_path, step):
    """At a generation's first step, and within one: the place in the generation is that of the step's beginning."""
    trainer = dapo(tmp_path, save_steps=100)
    callback = SavesBeforeTheStep(step)
    callback.trainer = trainer
    trainer.add_callback(callback)
    trainer.train()
    state = json.loads((tmp_path / f"checkpoint-{step}" / "resume_state_rank0.json").read_text())
    assert state["step"] == LAYOUT["gradient_accumulation_steps"] * step
    assert ("batches" in state) == (step == 6)
    resumed = dapo(tmp_path, max_steps=step + 1)
    resumed.train(resume_from_checkpoint=True)
    assert resumed._step == LAYOUT["gradient_accumulation_steps"] * (step + 1)


class Interrupts(TrainerCallback):
    """Ctrl+C in a notebook, between two micro-batches of a step."""

    def on_substep_end(self, args, state, control, **kwargs):
        if state.global_step == 6 and not self.done:
            self.done = True
            raise KeyboardInterrupt

    done = False


def interrupted(trainer):
    trainer.add_callback(Interrupts())
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    return trainer


@pytest.mark.parametrize("make", [moving_reference, pg_grpo, pg_dpo])
def test_the_interrupted_trainer_itself_may_resume(tmp_path, make):
    """In the middle of a generation, with metrics since the last log and estimates newer than the checkpoint's."""
    changes = {} if make is moving_reference else {"logging_steps": 4}
    changes |= {"gradient_accumulation_steps": 2, "num_train_epochs": 2} if make is pg_dpo else {}
    whole = make(tmp_path / "whole", **changes)
    whole.train()
    trainer = interrupted(make(tmp_path / "interrupted", **changes))
    trainer.train(resume_from_checkpoint=tmp_path / "interrupted" / "checkpoint-5")
    assert record_of(trainer) == record_of(whole)
    if make is moving_reference:
        tables = [sorted((tmp_path / run / "completions").iterdir()) for run in ("whole", "interrupted")]
        assert [path.read_bytes() for path in tables[0]] == [path.read_bytes() for path in tables[1]]


def test_a_table_with_dropped_rows_is_longer_than_the_hosts_and_comes_back_whole(tmp_path):
    here, there = (dapo(tmp_path)._logs for _ in range(2))
    rows = range(there["prompt"].maxlen + 3)
    columns = {name: [f"{name} {row}" for row in rows] for name in ("prompt", "completion", "advantages")}
    unpack_tables({**columns, "rewards": {"odd": list(rows)}, "extra": {"kept": list(rows)}}, there)
    unpack_tables(pack_tables(there), here)
    assert {name: list(here[name]) for name in columns} == columns
    assert list(here["rewards"]["odd"]) == list(here["extra"]["kept"]) == list(rows)


def test_a_second_run_begins_with_a_generation_of_its_own(tmp_path):
    trainer = interrupted(dapo(tmp_path, save_strategy="no"))
    assert trainer._step % 8 != 0
    left = trainer._buffered_inputs
    batches = watch_batches(trainer)
    trainer.args.max_steps = 1
    trainer.train()
    assert trainer._step == 2
    assert trainer._buffered_inputs is not left
    trained_before = [digest(batch) for batch in left]
    assert not any(batch in trained_before for batch in batches["0"])


# Texts of the host that exact resume answers to
RELIED_UPON = {
    Trainer._inner_training_loop: [
        "self._tr_loss = torch.tensor(0.0, device=args.device)",
        "self._globalstep_last_logged = self.state.global_step",
        "for epoch in range(epochs_trained, num_train_epochs):",
        "epochs_trained=epochs_trained, steps_trained_in_current_epoch=steps_trained_in_current_epoch,",
        "train_dataloader=train_dataloader, steps_in_epoch=steps_in_epoch,",
    ],
    Trainer._run_epoch: [
        "if epoch == epochs_trained and resume_from_checkpoint is not None:",
        "skip_first_batches(train_dataloader, steps_trained_in_current_epoch)",
        "self.state.epoch = epoch + (step + 1) / steps_in_epoch",
        "if rng_to_sync: self._load_rng_state(resume_from_checkpoint)",
    ],
    Trainer._save_checkpoint: [
        'checkpoint_folder = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"',
        "if self.args.push_to_hub: self._push_from_checkpoint(output_dir)",
        "rotate_checkpoints( output_dir=run_dir, save_total_limit=self.args.save_total_limit,",
    ],
    GRPOTrainer.training_step: ["self._step += 1"],
    GRPOTrainer._prepare_inputs: ["if self._step % generate_every == 0 or self._buffered_inputs is None:"],
    GRPOTrainer._generate_single_turn: ["if self.state.global_step != self._last_loaded_step:"],
    RepeatSampler.__iter__: ["torch.randperm(self.num_samples, generator=self.generator)"],
    SyncRefModelCallback._sync_target_model: ["zip(target_model.parameters(), model.parameters(), strict=True)"],
}


@pytest.mark.parametrize(
    ("method", "text"),
    [(method, text) for method, texts in RELIED_UPON.items() for text in texts],
    ids=lambda value: getattr(value, "__qualname__", value)[:40],
)
def test_relied_upon_source(method, text):
    assert text in " ".join(inspect.getsource(method).split())
