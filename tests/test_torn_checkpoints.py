"""A torn checkpoint is recognised, skipped or refused by name; one of another run is refused with what differs."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file
from transformers import Trainer

from dapo_ext.resume.checkpoint_choice import checkpoints_of, choose_checkpoint
from dapo_ext.resume.checkpoint_manifest import (
    HOST_SENTINEL,
    MANIFEST_FILE,
    close_manifest,
    find_damage,
    open_manifest,
    read_manifest,
)
from dapo_ext.resume.rank_state import RankState, load_rank_state, rank_to_read, save_rank_state
from dapo_ext.resume.run_identity import describe_dataset
from tests.pg_tiny import pg_trainer
from tests.resume_trainers import LAYOUT
from tests.test_refusals import refused
from tests.tiny import dapo_trainer, odd_length, prompts, rare_first_token, trl_trainer, weights
from tests.tiny_pairs import pairs, pg_dpo_trainer


RUN = {**LAYOUT, "per_device_train_batch_size": 4, "max_steps": 2, "save_strategy": "steps", "save_steps": 1}


@pytest.fixture(scope="module")
def two_checkpoints(tmp_path_factory):
    """The folder of a run with two checkpoints, the second within a generation."""
    folder = tmp_path_factory.mktemp("run")
    dapo_trainer(folder, rare_first_token, **RUN).train()
    return folder


@pytest.fixture
def run_folder(two_checkpoints, tmp_path):
    return shutil.copytree(two_checkpoints, tmp_path / "run")


def choose(folder, asked=True):
    return choose_checkpoint(asked, str(folder), reads=True, gather_object=lambda items: items)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def remove(path):
    path.unlink()


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


OURS = ["resume_state_rank0.safetensors", "resume_state_rank0.json", "dynamic_sampling.safetensors", MANIFEST_FILE]
THEIRS = ["model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"]


def test_a_whole_checkpoint_has_no_damage_and_its_files_are_in_open_formats(two_checkpoints):
    newest, older = checkpoints_of(two_checkpoints)
    assert (newest.name, older.name) == ("checkpoint-2", "checkpoint-1")
    assert find_damage(newest) is find_damage(older) is None
    state = json.loads((older / "resume_state_rank0.json").read_text())
    assert state["step"] == 2
    assert len(state["batches"]) == 4
    arrays = load_file(older / "resume_state_rank0.safetensors")
    assert arrays["batch_3/completion_ids"].shape[0] == 4
    manifest = json.loads((older / MANIFEST_FILE).read_text())
    on_disk = {path.name for path in older.iterdir()}
    assert set(manifest["files"]) == on_disk - {MANIFEST_FILE}
    assert not [name for name in on_disk if name.endswith(".partial")]


@pytest.mark.parametrize("name", OURS + THEIRS)
@pytest.mark.parametrize("tear", [truncate, empty, remove, flip_a_byte])
def test_damage_is_found_skipped_and_named(run_folder, caplog, name, tear):
    newest = run_folder / "checkpoint-2"
    tear(newest / name)
    assert name in find_damage(newest)
    assert choose(run_folder) == run_folder / "checkpoint-1"
    assert str(newest) in caplog.text
    assert name in caplog.text
    with refused("resume_from_checkpoint") as error:
        choose(run_folder, newest)
    assert name in str(error.value)
    assert "pass True" in str(error.value)


def test_true_means_written_last_and_not_the_highest_number(run_folder, tmp_path, caplog):
    """A run that began anew in the folder of a finished one; and copies, which have other times on disk."""
    trainer = dapo_trainer(run_folder, rare_first_token, **{**RUN, "max_steps": 1})
    trainer.train()
    copy = tmp_path / "copy"
    for name in ("checkpoint-1", "checkpoint-2"):
        shutil.copytree(run_folder / name, copy / name, copy_function=shutil.copyfile)
    assert choose(copy) == copy / "checkpoint-1"
    truncate(copy / "checkpoint-1" / "optimizer.pt")
    assert choose(copy) == copy / "checkpoint-2"
    assert str(copy / "checkpoint-1") in caplog.text
    caplog.clear()
    open_manifest(copy / "checkpoint-9")  # begun last
    assert [folder.name for folder in checkpoints_of(copy)] == ["checkpoint-9", "checkpoint-1", "checkpoint-2"]
    assert choose(copy) == copy / "checkpoint-2"
    assert "checkpoint-9: the run ended while it was being written" in caplog.text


def test_the_hosts_own_sign_of_an_unfinished_checkpoint_counts(run_folder):
    (run_folder / "checkpoint-2" / HOST_SENTINEL).touch()
    assert choose(run_folder) == run_folder / "checkpoint-1"


def test_there_is_never_a_silent_fresh_start(run_folder, tmp_path):
    for folder in checkpoints_of(run_folder):
        remove(folder / "optimizer.pt")
    trainer = dapo_trainer(run_folder, rare_first_token, **RUN)
    before = weights(trainer).clone()
    with refused("resume_from_checkpoint") as error:
        trainer.train(resume_from_checkpoint=True)
    assert "checkpoint-1" in str(error.value)
    assert "checkpoint-2" in str(error.value)
    assert torch.equal(weights(trainer), before)
    trainer.args.output_dir = str(tmp_path / "elsewhere")
    for asked in (True, str(tmp_path / "run" / "checkpoint-3")):
        with refused("resume_from_checkpoint"):
            trainer.train(resume_from_checkpoint=asked)
    (tmp_path / "elsewhere" / "checkpoint-4").mkdir(parents=True)  # killed before the first file
    with refused("resume_from_checkpoint"):
        trainer.train(resume_from_checkpoint=True)


@pytest.mark.parametrize("step", ["_save_optimizer_and_scheduler", "sampler.state"])
def test_a_save_that_is_cut_off_leaves_the_last_whole_checkpoint(tmp_path, monkeypatch, caplog, step):
    """With a limit of one: the older checkpoint goes only when the newer one is whole, and a torn one goes then."""
    options = {**RUN, "save_total_limit": 1, "max_steps": 3}
    trainer = dapo_trainer(tmp_path, rare_first_token, **options)
    owner = trainer.sampler if "." in step else trainer
    original = getattr(owner, step.split(".")[-1])

    def cut_off(*args):
        if trainer.state.global_step == 2:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(owner, step.split(".")[-1], cut_off)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    assert [find_damage(folder) is None for folder in checkpoints_of(tmp_path)] == [False, True]
    resumed = dapo_trainer(tmp_path, rare_first_token, **{**options, "save_steps": 2})
    resumed.train(resume_from_checkpoint=True)
    assert "checkpoint-2: the run ended while it was being written" in caplog.text
    assert [folder.name for folder in checkpoints_of(tmp_path)] == ["checkpoint-3"]
    assert find_damage(tmp_path / "checkpoint-3") is None
    # What is written down meanwhile says what was configured
    assert torch.load(tmp_path / "checkpoint-3" / "training_args.bin", weights_only=False).save_total_limit == 1
    assert "save_total_limit: 1" in (tmp_path / "README.md").read_text()


def test_a_torn_checkpoint_that_is_newer_by_number_does_not_outlive_a_whole_one(run_folder):
    """Without the deletion the host would take the torn one for the newest and delete what is whole."""
    (run_folder / "checkpoint-9").mkdir()
    (run_folder / "checkpoint-9" / MANIFEST_FILE).write_text('{"complete": false}')
    options = {**RUN, "max_steps": 3, "save_total_limit": 1}
    dapo_trainer(run_folder, rare_first_token, **options).train(resume_from_checkpoint=True)
    assert [folder.name for folder in checkpoints_of(run_folder)] == ["checkpoint-3"]


def test_the_checkpoint_of_this_very_step_is_not_written_again(run_folder):
    """A second save of a step would put the only whole checkpoint at risk."""
    trainer = dapo_trainer(run_folder, rare_first_token, **RUN)
    trainer.train(resume_from_checkpoint=True)
    stamp = (run_folder / "checkpoint-2" / MANIFEST_FILE).stat().st_mtime_ns
    trainer._save_checkpoint(trainer.model, trial=None)
    assert (run_folder / "checkpoint-2" / MANIFEST_FILE).stat().st_mtime_ns == stamp


def test_what_is_uploaded_is_whole(tmp_path, monkeypatch):
    uploaded = []
    monkeypatch.setattr(
        Trainer, "_push_from_checkpoint", lambda self, folder: uploaded.append(find_damage(Path(folder)))
    )
    monkeypatch.setattr(Trainer, "_finish_current_push", lambda self: None)
    trainer = dapo_trainer(tmp_path, rare_first_token, **RUN)
    trainer.args.push_to_hub = True
    trainer.train()
    assert uploaded == [None, None]


def test_a_checkpoint_of_weights_alone_is_refused(tmp_path):
    dapo_trainer(tmp_path, rare_first_token, **RUN, save_only_model=True).train()
    for asked in (True, tmp_path / "checkpoint-2"):
        with refused("resume_from_checkpoint"):
            choose(tmp_path, asked)


def test_a_checkpoint_of_trls_own_trainer_is_taken_at_its_path_with_a_warning(tmp_path, caplog):
    trl_trainer(tmp_path, rare_first_token, **RUN).train()
    trainer = dapo_trainer(tmp_path, rare_first_token, **{**RUN, "max_steps": 4})
    with refused("resume_from_checkpoint"):
        trainer.train(resume_from_checkpoint=True)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert trainer.state.global_step == 4
    assert "another trainer wrote it" in caplog.text


# ---- Several nodes ----


def test_every_rank_of_two_nodes_takes_up_its_own_state(tmp_path):
    """With save_on_each_node the folder of the second node holds the files of its two ranks alone."""
    for rank in (2, 3):
        save_rank_state(tmp_path, rank, RankState({"metrics": {"of": [rank]}}, {}))
    close_manifest(tmp_path, {"world_size": 4})
    manifest = read_manifest(tmp_path)
    for rank in (2, 3):
        taken = rank_to_read(manifest["world_size"], rank, ranks_here=4)
        assert load_rank_state(tmp_path, taken).values["metrics"]["of"] == [rank]
    assert rank_to_read(manifest["world_size"], 1, ranks_here=2) == 0


@pytest.mark.parametrize("own", ["resume_state_rank0", "reference_model"])
def test_a_nodes_folder_without_the_files_of_its_ranks_is_refused(tmp_path, own):
    """The nodes have changed places; or a sharded run, which keeps no reference, goes on unsharded."""
    moving = {"beta": 0.1, "sync_ref_model": True, "ref_model_sync_steps": 1}
    dapo_trainer(tmp_path, rare_first_token, **{**RUN, "max_steps": 1}, **moving).train()
    folder = tmp_path / "checkpoint-1"
    manifest = read_manifest(folder)
    for path in folder.glob(f"{own}.*"):
        path.rename(path.with_stem("resume_state_rank1"))
    close_manifest(folder, {name: manifest[name] for name in ("weights_only", "world_size", "run", "optimizer")})
    trainer = dapo_trainer(tmp_path, rare_first_token, **RUN, **moving)
    before = weights(trainer).clone()
    with refused("resume_from_checkpoint") as error:
        trainer.train(resume_from_checkpoint=True)
    assert f"{own}." in str(error.value)
    assert "rank 0" in str(error.value)
    assert torch.equal(weights(trainer), before)


# ---- Another run ----


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"num_generations": 2}, ["num_generations"]),
        ({"num_iterations": 1}, ["num_iterations"]),
        ({"seed": 7, "shuffle_dataset": False}, ["seed", "shuffle_dataset"]),
        (
            {"per_device_train_batch_size": 8, "steps_per_generation": 2},
            ["per_device_train_batch_size", "steps_per_generation"],
        ),
        ({"gradient_accumulation_steps": 1, "optim": "sgd"}, ["optim", "gradient_accumulation_steps"]),
        ({"prompt_selection": "predictive"}, ["prompt_selection"]),
        ({"dataset": prompts(63)}, ["train_dataset"]),
        ({"dataset": prompts(64).map(lambda row: {"answer": row["answer"][::-1] + "."})}, ["train_dataset"]),
        ({"reward_funcs": odd_length}, ["reward_funcs"]),
        ({"soft_overlong_cache": 0}, ["soft_overlong_cache"]),
        ({"beta": 0.1, "sync_ref_model": True}, ["sync_ref_model"]),
    ],
    ids="-".join,
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(two_checkpoints, tmp_path, changes, fields):
    options = {"reward_funcs": rare_first_token, **RUN, "max_steps": 4, **changes}
    trainer = dapo_trainer(tmp_path, **options)
    before = weights(trainer).clone()
    with refused("resume_from_checkpoint") as error:
        trainer.train(resume_from_checkpoint=two_checkpoints / "checkpoint-1")
    reason = str(error.value)
    for field in fields:
        assert f"{field} is " in reason
    assert reason.count(" there and ") == len(fields)
    assert f"set {', '.join(fields)} as they are there" in reason
    assert torch.equal(weights(trainer), before)


def test_offline_pass_rates_belong_to_the_run(tmp_path):
    rated = prompts(64).add_column("rate", [0.5] * 64)
    options = {**RUN, "dataset": rated, "prompt_selection": "predictive"}
    dapo_trainer(tmp_path, rare_first_token, **{**options, "max_steps": 1}).train()
    trainer = dapo_trainer(tmp_path, rare_first_token, **{**options, "max_steps": 2, "pass_rate_column": "rate"})
    with refused("resume_from_checkpoint") as error:
        trainer.train(resume_from_checkpoint=True)
    assert "pass_rate_column is None there and 'rate' here" in str(error.value)


def test_another_trainer_is_another_run(two_checkpoints, tmp_path):
    trainer = pg_trainer(tmp_path, rare_first_token, **{**RUN, "max_steps": 4})
    with refused("resume_from_checkpoint") as error:
        trainer.train(resume_from_checkpoint=two_checkpoints / "checkpoint-1")
    assert "trainer is 'DAPO' there and 'PG-GRPO' here" in str(error.value)


def test_what_may_change_may_change_and_what_has_no_effect_is_said(two_checkpoints, tmp_path, caplog):
    options = {**RUN, "max_steps": 3, "logging_steps": 2, "save_steps": 3, "learning_rate": 1e-1}
    trainer = dapo_trainer(tmp_path, rare_first_token, **options, carry_surplus=False, generation_budget=4.0)
    trainer.train(resume_from_checkpoint=two_checkpoints / "checkpoint-1")
    assert trainer.state.global_step == 3
    assert "learning_rate=0.1 (it stays 0.001)" in caplog.text
    assert trainer.optimizer.param_groups[0]["lr"] == 1e-3


def test_a_reference_cannot_join_in_the_middle_of_a_generation(two_checkpoints, tmp_path):
    trainer = dapo_trainer(tmp_path, rare_first_token, **{**RUN, "max_steps": 3}, beta=0.1)
    with refused("beta"):
        trainer.train(resume_from_checkpoint=two_checkpoints / "checkpoint-1")


def test_the_pairs_of_a_step_make_a_preference_run(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 1, "max_steps": 1}
    pg_dpo_trainer(tmp_path, **options).train()
    split_otherwise = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "max_steps": 2}
    pg_dpo_trainer(tmp_path, **split_otherwise).train(resume_from_checkpoint=True)
    with refused("resume_from_checkpoint") as error:
        pg_dpo_trainer(tmp_path, per_device_train_batch_size=4).train(resume_from_checkpoint=True)
    assert "pairs_per_step is 4 there and 8 here" in str(error.value)
    with refused("resume_from_checkpoint"):
        pg_dpo_trainer(tmp_path, pairs(15)).train(resume_from_checkpoint=True)


def test_a_dataset_is_known_by_its_rows():
    one, same, other = prompts(40), prompts(40).select(range(40)), prompts(40).shuffle(seed=1)
    assert describe_dataset(one) == describe_dataset(same) != describe_dataset(other)
    measured = one.add_column("score", [0.5] * 40), one.add_column("score", [0.25] * 40)
    assert describe_dataset(measured[0]) == describe_dataset(measured[1]) != describe_dataset(one)
