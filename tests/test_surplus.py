"""Groups that wait: trained on at the next chance, scored by the policy that wrote them, and safe in the checkpoint."""

import copy
import datetime

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import IterableDataset
from safetensors.numpy import load_file

from dapo_ext.sampling.group_filter import Verdict
from dapo_ext.sampling.surplus import choose_groups
from tests.tiny import dapo_trainer, logged, policy, prompts, rare_first_token, weights


GROUPS = 4  # of a batch, see tests/tiny.py
G = 4
ALIGNED = {"gradient_accumulation_steps": 2}  # one optimizer step per generation: the host scores no old policy
MISALIGNED = {"gradient_accumulation_steps": 1}
INFORMATIVE, EQUAL = int(Verdict.INFORMATIVE), int(Verdict.EQUAL)


class Scripted:
    """0/1 by the row's place, but 0 throughout for the dead groups of a script."""

    __name__ = "scripted"

    def __init__(self, dead: set[int]):
        self.dead = dead
        self.scored = 0

    def __call__(self, completion_ids, **kwargs):
        groups = [(self.scored + i) // G for i in range(len(completion_ids))]
        rewards = [0.0 if group in self.dead else float(i % 2) for i, group in enumerate(groups)]
        self.scored += len(completion_ids)
        return rewards


# Generation 1: groups 0 to 3, of which one is informative, and a refill of four: one of them is too much.
# Generation 2: groups 8 to 11, all informative: one is left over again.
ONE_TOO_MANY = {0, 1, 2}


def record(trainer) -> tuple[list, list]:
    """What the sampler gave and what the host made of it, for each generation."""
    sampled, batches = [], []
    fill, generate = trainer.sampler.fill, trainer._generate_and_score_completions

    def watched_fill(*args):
        sampled.append(fill(*args))
        return sampled[-1]

    def watched_generate(inputs):
        batches.append(copy.deepcopy(generate(inputs)))
        return batches[-1]

    trainer.sampler.fill, trainer._generate_and_score_completions = watched_fill, watched_generate
    return sampled, batches


class TestChoice:
    def test_the_oldest_are_trained_on_first(self):
        verdicts = torch.tensor([INFORMATIVE, EQUAL, INFORMATIVE, INFORMATIVE])
        choice = choose_groups(verdicts, [3, 4], generation=5, batch_groups=4, max_staleness=2)
        assert choice.kept.tolist() == [0, 1, 2, 4]  # two that waited, then fresh ones
        assert choice.staying.tolist() == [5]
        assert choice.staying_written_at == [5]
        assert (choice.carried, choice.staleness_max, choice.surplus, choice.dropped_stale) == (2, 2, 1, 0)

    def test_dead_groups_fill_what_is_missing(self):
        verdicts = torch.tensor([EQUAL, INFORMATIVE, EQUAL, EQUAL])
        choice = choose_groups(verdicts, [1], generation=2, batch_groups=4, max_staleness=1)
        assert choice.kept.tolist() == [0, 2]
        assert choice.fillers.tolist() == [1, 3]

    @pytest.mark.parametrize("max_staleness", [1, 2, 3])
    def test_nothing_older_than_the_bound_waits(self, max_staleness):
        """More wait than a batch holds: those too old for the next batch are dropped and counted."""
        written_at = [2, 3, 4, 4]
        choice = choose_groups(torch.tensor([INFORMATIVE]), written_at, 5, batch_groups=1, max_staleness=max_staleness)
        waiting = [3, 4, 4, 5]
        young = [w for w in waiting if 6 - w <= max_staleness]
        assert choice.staying_written_at == young
        assert choice.dropped_stale == len(waiting) - len(young)
        assert choice.surplus == len(young)

    def test_without_carrying_nothing_waits(self):
        choice = choose_groups(torch.full((6,), INFORMATIVE), [], generation=1, batch_groups=4, max_staleness=0)
        assert len(choice.staying) == 0
        assert (choice.surplus, choice.dropped_stale) == (2, 0)


def test_a_waiting_group_is_trained_on_next(tmp_path):
    trainer = dapo_trainer(tmp_path, Scripted(ONE_TOO_MANY), max_steps=4, soft_overlong_cache=0)
    sampled, batches = record(trainer)
    trainer.train()
    assert logged(trainer, "dynamic_sampling/surplus") == [1, 1]
    assert logged(trainer, "dynamic_sampling/staleness_max") == [0, 1]
    assert logged(trainer, "dynamic_sampling/dropped_stale") == [0, 0]
    assert [part.carried_groups for part in sampled] == [0, 1]
    waited = [row.completion_ids for row in sampled[0].waiting]
    assert [row.completion_ids for row in sampled[1].rows[:G]] == waited
    ids, mask = batches[1]["completion_ids"], batches[1]["completion_mask"].bool()
    assert [ids[i][mask[i]].tolist() for i in range(G)] == waited
    # Its advantages are those of its own rewards, 0 1 0 1
    assert batches[1]["advantages"][:G].sign().tolist() == [-1, 1, -1, 1]
    ledger = trainer.sampler.ledger
    assert ledger.informative_groups == 2 * GROUPS
    assert ledger.generated_groups == 3 * GROUPS


@pytest.mark.parametrize("layout", [ALIGNED, MISALIGNED], ids=["aligned", "misaligned"])
def test_a_waiting_group_keeps_the_log_probabilities_of_the_policy_that_wrote_it(tmp_path, layout):
    trainer = dapo_trainer(
        tmp_path, Scripted(ONE_TOO_MANY), max_steps=4, learning_rate=1e-1, soft_overlong_cache=0, **layout
    )
    policies = []
    fill = trainer.sampler.fill

    def filling(*args):
        policies.append(policy())  # as it is before any optimizer step of this generation
        policies[-1].load_state_dict(trainer.model.state_dict())
        return fill(*args)

    trainer.sampler.fill = filling
    sampled, batches = record(trainer)
    trainer.train()
    batch = batches[1]
    mask = batch["completion_mask"].bool()
    assert ("old_per_token_logps" in batches[0]) == (layout is MISALIGNED)
    written, current = [reference_logps(model, batch) for model in policies[:2]]
    old = batch["old_per_token_logps"]
    torch.testing.assert_close(old[:G][mask[:G]], written[:G][mask[:G]], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(old[G:][mask[G:]], current[G:][mask[G:]], rtol=1e-5, atol=1e-5)
    assert (written - current)[:G][mask[:G]].abs().max() > 0.01  # the policy had moved
    # And bit for bit what was stored with the rows when they began to wait
    for row, logps, live in zip(sampled[0].waiting, old[:G], mask[:G], strict=True):
        assert logps[live].tolist() == row.old_per_token_logps


def reference_logps(model, batch) -> torch.Tensor:
    """Plain log-softmax, row by row, without padding."""
    result = torch.zeros(batch["completion_ids"].shape)
    for i in range(len(result)):
        prompt = batch["prompt_ids"][i][batch["prompt_mask"][i].bool()]
        completion = batch["completion_ids"][i][batch["completion_mask"][i].bool()]
        with torch.no_grad():
            logits = model(torch.cat([prompt, completion])[None]).logits[0, len(prompt) - 1 : -1]
        result[i, : len(completion)] = logits.log_softmax(-1).gather(1, completion[:, None])[:, 0]
    return result


def test_the_ratio_of_a_waiting_group_is_against_its_own_policy(tmp_path):
    """In an aligned layout TRL takes every ratio for 1; a group that waited has another, and the clip sees it."""
    trainer = dapo_trainer(
        tmp_path, Scripted(ONE_TOO_MANY), max_steps=2, learning_rate=3e-1, soft_overlong_cache=0, **ALIGNED
    )
    trainer.train()
    first, second = logged(trainer, "clip_ratio/region_mean")
    assert first == 0
    assert second > 0


@pytest.mark.parametrize("layout", [ALIGNED, MISALIGNED], ids=["aligned", "misaligned"])
def test_token_weights_are_formed_from_the_stored_log_probabilities(tmp_path, layout):
    seen = {}

    def weight(completion_ids, mask, logps, entropies, advantages):
        for ids, live, row in zip(completion_ids, mask.bool(), logps, strict=True):
            seen[tuple(ids[live].tolist())] = row[live].tolist()
        return entropies.clamp(min=0)

    trainer = dapo_trainer(
        tmp_path,
        Scripted(ONE_TOO_MANY),
        trainer_args={"token_weight_fn": weight},
        max_steps=4 // layout["gradient_accumulation_steps"],
        learning_rate=1e-1,
        soft_overlong_cache=0,
        **layout,
    )
    sampled, _ = record(trainer)
    trainer.train()
    assert sampled[1].carried_groups == 1
    for row in sampled[0].waiting:
        assert seen[tuple(row.completion_ids)] == row.old_per_token_logps


def test_the_vllm_correction_is_formed_from_the_stored_log_probabilities(tmp_path):
    """A stand-in for vLLM that samples with the policy and returns log-probabilities that are off by a tenth."""
    trainer = dapo_trainer(tmp_path, Scripted(ONE_TOO_MANY), max_steps=4, learning_rate=1e-1, soft_overlong_cache=0)
    generate = trainer._generate_single_turn

    def generate_like_vllm(prompt_ids, *args):
        trainer.use_vllm = False
        completion_ids, _ = generate(prompt_ids, *args)
        trainer.use_vllm = True
        return completion_ids, [[-3.0 - 0.1 * i for i in range(len(ids))] for ids in completion_ids]

    trainer._generate_single_turn = generate_like_vllm
    trainer.use_vllm, trainer.vllm_importance_sampling_correction = True, True
    trainer.vllm_importance_sampling_mode = "token_truncate"
    trainer.vllm_importance_sampling_clip_min, trainer.vllm_importance_sampling_clip_max = None, 100.0
    sampled, batches = record(trainer)
    trainer.train()
    for row, ratio in zip(sampled[0].waiting, batches[1]["importance_sampling_ratio"], strict=False):
        expected = (torch.tensor(row.old_per_token_logps) - torch.tensor(row.logprobs)).exp()
        torch.testing.assert_close(ratio[: len(expected)], expected)


def test_surplus_is_thrown_away_when_it_is_not_carried(tmp_path):
    trainer = dapo_trainer(tmp_path, Scripted(ONE_TOO_MANY), max_steps=4, carry_surplus=False)
    sampled, _ = record(trainer)
    trainer.train()
    assert logged(trainer, "dynamic_sampling/surplus") == [1, 0]
    assert logged(trainer, "dynamic_sampling/staleness_max") == [0, 0]
    assert [part.carried_groups for part in sampled] == [0, 0]


def test_the_first_generation_is_the_one_without_carrying(tmp_path):
    """Scoring what waits draws no random number and moves nothing."""
    runs = []
    for carry in (True, False):
        runs.append(dapo_trainer(tmp_path / str(carry), Scripted(ONE_TOO_MANY), max_steps=2, carry_surplus=carry))
        runs[-1].train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))


@pytest.mark.parametrize("selection", ["uniform", "predictive"])
def test_a_resumed_run_uses_the_waiting_groups_as_the_whole_run_did(tmp_path, selection):
    options = {"prompt_selection": selection, "save_strategy": "steps", "save_steps": 2, "learning_rate": 1e-2}

    def reward(completion_ids, log_extra, **kwargs):
        log_extra("length", [len(ids) for ids in completion_ids])
        return rare_first_token(completion_ids)

    stamp = datetime.datetime(2026, 1, 2, 3, 4, 5)
    dataset = prompts(64).add_column("when", [stamp] * 64)
    whole = dapo_trainer(tmp_path / "whole", reward, dataset, max_steps=16, **options)
    sampled, _ = record(whole)
    whole.train()
    # Resume where something waited
    step = next(2 * i + 2 for i, part in enumerate(sampled) if part.waiting and 2 * i + 2 < 16)
    checkpoint = tmp_path / "whole" / f"checkpoint-{step}"
    resumed = dapo_trainer(tmp_path / "resumed", reward, dataset, max_steps=16, **options)
    after, _ = record(resumed)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert after[0].carried_groups > 0
    for ours, theirs in zip(after, sampled[step // 2 :], strict=True):
        assert ours.rows == theirs.rows
        assert ours.waiting == theirs.waiting
    assert torch.equal(weights(resumed), weights(whole))
    ours, theirs = resumed.sampler.state(), whole.sampler.state()
    assert ours.values == theirs.values
    assert ours.waiting == theirs.waiting
    assert ours.waiting_examples == theirs.waiting_examples
    for name in ("arrays", "waiting_arrays"):
        for key, array in getattr(ours, name).items():
            assert np.array_equal(array, getattr(theirs, name)[key], equal_nan=array.dtype.kind == "f")


def test_the_checkpoint_is_in_open_formats(tmp_path):
    trainer = dapo_trainer(
        tmp_path,
        Scripted(ONE_TOO_MANY),
        max_steps=2,
        save_strategy="steps",
        save_steps=2,
        prompt_selection="predictive",
    )
    trainer.train()
    folder = tmp_path / "checkpoint-2"
    arrays = load_file(folder / "dynamic_sampling.safetensors")
    part = trainer.sampler.surplus.groups
    assert arrays["waiting_completion_ids"].tolist() == [i for row in part.rows for i in row.completion_ids]
    assert arrays["hits"].sum() + arrays["misses"].sum() > 0
    table = pd.read_parquet(folder / "dynamic_sampling.parquet")
    assert table["prompt"].tolist() == [row.example["prompt"] for row in part.rows]
    assert not list(folder.glob("*.partial"))


def test_rows_without_column_types_are_left_out_of_the_checkpoint_with_a_warning(tmp_path, caplog):
    rows = [{**row, "phase": complex(0, i)} for i, row in enumerate(prompts(32).to_list())]
    options = {"save_strategy": "steps", "save_steps": 2, "dataset": IterableDataset.from_generator(lambda: iter(rows))}
    trainer = dapo_trainer(tmp_path / "a", Scripted({0, 1, 2}), max_steps=2, **options)
    sampled, _ = record(trainer)
    trainer.train()
    assert sampled[0].waiting
    assert any("are not in" in record.message and "carry_surplus=False" in record.message for record in caplog.records)
    resumed = dapo_trainer(tmp_path / "b", Scripted(set()), max_steps=4, **options)
    after, _ = record(resumed)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert [part.carried_groups for part in after] == [0]


def test_groups_too_old_for_a_smaller_batch_are_dropped(tmp_path):
    """A run with a batch of one group takes up three that wait: one is trained on, two become stale."""
    dead = set(range(13))  # groups 13 to 15 are informative, and so are the four generated for the one still missing
    first = dapo_trainer(tmp_path / "a", Scripted(dead), max_steps=2)
    sampled, _ = record(first)
    first.train()
    assert len(sampled[0].waiting) == 3 * G
    smaller = {"per_device_train_batch_size": 4, "steps_per_generation": 1, "generation_budget": 20.0}
    second = dapo_trainer(tmp_path / "b", Scripted(set()), max_steps=2, **smaller)
    second.sampler.load_state(first.sampler.state())
    second.train()
    assert logged(second, "dynamic_sampling/dropped_stale") == [2, 0]
    assert logged(second, "dynamic_sampling/staleness_max") == [1, 1]


def test_a_run_resumed_without_carrying_forgets_what_waited(tmp_path):
    options = {"save_strategy": "steps", "save_steps": 2}
    dapo_trainer(tmp_path / "a", Scripted(ONE_TOO_MANY), max_steps=2, **options).train()
    second = dapo_trainer(tmp_path / "b", Scripted(set()), max_steps=4, carry_surplus=False)
    sampled, _ = record(second)
    second.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert [part.carried_groups for part in sampled] == [0]


def test_waiting_rows_stand_in_the_table_once_when_they_are_trained_on(tmp_path):
    trainer = dapo_trainer(
        tmp_path, Scripted(ONE_TOO_MANY), max_steps=4, log_completions=True, num_completions_to_print=0
    )
    sampled, _ = record(trainer)
    trainer.train()
    first, second = (pd.read_parquet(tmp_path / "completions" / f"completions_0000{i}.parquet") for i in (1, 3))
    assert (len(first), first["kept"].sum()) == ((2 * GROUPS - 1) * G, GROUPS * G)
    assert (len(second), second["kept"].sum()) == (GROUPS * G, GROUPS * G)
    assert second["completion"].tolist()[:G] == [row.completion for row in sampled[0].waiting]
