"""Dynamic pairs: the selection by itself, and through the real trainer."""

import pytest
import torch
from datasets import Dataset, IterableDataset
from peft import LoraConfig

from dapo_ext.playground.policy import build_policy
from dapo_ext.sampling.prompt_stream import PromptStream
from pg_grpo.pair_loss import PairState
from pg_grpo.pair_selection import Candidates, PairsConverged, PairSelector, ScoredPair, pair_key
from tests.tiny import SMALL, logged, weights
from tests.tiny_pairs import pairs, pg_dpo_trainer


LIVE, DONE, STUCK = PairState.LIVE, PairState.DONE, PairState.STUCK
# Ratios that leave their bounds after a few steps, so that there is something to select
STEEP = {"pg_beta": 1.0, "epsilon": 0.2, "epsilon_high": 0.2, "learning_rate": 3e-3}


def far_reference() -> dict:
    return {"model": build_policy(0, **SMALL), "ref_model": build_policy(1, **SMALL)}


# ---- The selection by itself ----


def numbered(size: int) -> Dataset:
    return Dataset.from_list([{"prompt_ids": [i], "chosen_ids": [1], "rejected_ids": [2]} for i in range(size)])


def selector(size: int, budget: float = 3.0) -> PairSelector:
    stream = PromptStream(numbered(size), seed=0, key=pair_key)
    return PairSelector(stream, budget, process_index=0, num_processes=1, gather_object=lambda items: items)


def scoring(state_of):
    """A score function that asks `state_of` for a pair's number, and the numbers it was asked for."""
    asked = []

    def score(rows):
        asked.extend(row["prompt_ids"][0] for row in rows)
        return [ScoredPair(row, state_of(row["prompt_ids"][0])) for row in rows]

    return score, asked


def fill(chosen_by: PairSelector, first: list[int], state_of):
    score, asked = scoring(state_of)
    reported = {}
    rows = chosen_by.stream.dataset
    filled = chosen_by.fill([rows[i] for i in first], score, reported.update)
    return [pair.example["prompt_ids"][0] for pair in filled], asked, reported


def test_of_what_was_scored_only_pairs_that_a_batch_may_hold_are_kept():
    candidates = Candidates()
    for number, states in enumerate([[DONE, STUCK, DONE], [DONE, LIVE, DONE], [DONE, DONE, DONE]]):
        candidates.add([ScoredPair({"round": number}, state) for state in states], states, process_index=0)
    assert [number for number, _ in candidates.pairs] == [0, 1, 2, 4]
    assert candidates.states.count(DONE) == 7


def test_a_step_whose_pairs_are_all_live_is_left_as_it_is():
    filled, asked, reported = fill(selector(20), [3, 1, 4, 15], lambda i: LIVE)
    assert filled == asked == [3, 1, 4, 15]
    assert reported == {
        "scored_pairs": 4,
        "kept_pairs": 4,
        "accept_rate": 1.0,
        "rounds": 1,
        "dead_done": 0,
        "dead_stuck": 0,
        "surplus": 0,
        "exhausted": 0.0,
    }


def test_dead_pairs_are_replaced_and_none_is_scored_twice():
    filled, asked, reported = fill(selector(20), [0, 1, 2, 3], lambda i: DONE if i < 3 else LIVE)
    assert filled[0] == 3
    assert all(i >= 3 for i in filled)
    assert len(set(asked)) == len(asked) == reported["scored_pairs"]
    assert reported["dead_done"] == sum(i < 3 for i in asked)
    assert reported["surplus"] == reported["scored_pairs"] - reported["dead_done"] - 4


def test_the_budget_is_never_exceeded_and_places_left_over_hold_dead_pairs():
    chosen_by = selector(1000)
    filled, asked, reported = fill(chosen_by, [0, 1, 2, 3], lambda i: LIVE if i == 2 else DONE)
    assert len(asked) == reported["scored_pairs"] == 12
    assert filled[0] == 2
    assert len(filled) == 4
    assert (reported["kept_pairs"], reported["exhausted"]) == (1, 1.0)


def test_the_accept_rate_forgets():
    chosen_by = selector(20)
    for _ in range(2):
        fill(chosen_by, [0, 1, 2, 3], lambda i: LIVE)
    assert (chosen_by.accept_rate.kept, chosen_by.accept_rate.generated) == (7.2, 7.2)  # 0.8 * 4 + 4


def test_the_last_live_pair_of_a_dataset_is_found_beyond_the_budget():
    chosen_by = selector(101)
    filled, asked, _ = fill(chosen_by, [0, 1, 2, 3], lambda i: LIVE if i == 77 else DONE)
    assert filled[0] == 77
    # The next search begins where this one ended: after the step that begins at pair 76
    _, asked, _ = fill(chosen_by, [0, 1, 2, 3], lambda i: LIVE if i == 81 else DONE)
    assert asked[-4:] == [80, 81, 82, 83]
    assert len(asked) == 12 + 4


def test_convergence_is_said_only_after_every_pair_was_scored():
    score, asked = scoring(lambda i: DONE)
    chosen_by, reported = selector(30), {}
    rows = chosen_by.stream.dataset
    with pytest.raises(PairsConverged, match="It has converged: of all 30 pairs"):
        chosen_by.fill([rows[i] for i in range(4)], score, reported.update)
    assert set(asked) == set(range(30))
    assert reported["kept_pairs"] == 0


def test_pairs_cut_off_on_the_wrong_side_are_not_called_converged():
    score, _ = scoring(lambda i: STUCK if i % 2 else DONE)
    chosen_by = selector(8, budget=1.0)
    with pytest.raises(PairsConverged, match=r"No gradient is left.*6 of 12 that were scored.*Raise delta"):
        chosen_by.fill([chosen_by.stream.dataset[i] for i in range(4)], score, lambda values: None)


# ---- Through the real trainer ----


def trained_batches(trainer) -> list[dict]:
    """The batches of the training steps, as they reach the loss."""
    batches = []
    original = trainer._compute_loss

    def spy(model, inputs, return_outputs):
        if model.training:
            batches.append(dict(inputs))
        return original(model, inputs, return_outputs)

    trainer._compute_loss = spy
    return batches


def test_while_every_pair_is_live_training_is_the_same_to_the_bit(tmp_path):
    final = []
    for dynamic in (False, True):
        trainer = pg_dpo_trainer(tmp_path, pairs(7), dynamic_pairs=dynamic, max_steps=4)
        trainer.train()
        final.append(weights(trainer))
    assert logged(trainer, "dynamic_pairs/accept_rate") == [1.0] * 4
    assert torch.equal(final[0], final[1])


def test_pairs_are_scored_without_dropout(tmp_path):
    trainer = pg_dpo_trainer(tmp_path, dynamic_pairs=True)
    modes, score = [], trainer._score
    trainer._score = lambda rows: modes.append(trainer.model.training) or score(rows)
    batches = trained_batches(trainer)
    trainer.train()
    assert modes == [False] * 3
    assert len(batches) == 6


@pytest.mark.parametrize("precompute", [False, True])
def test_only_pairs_with_a_gradient_are_trained_on(tmp_path, precompute):
    trainer = pg_dpo_trainer(tmp_path, pairs(24), dynamic_pairs=True, precompute_ref_log_probs=precompute, **STEEP)
    batches = trained_batches(trainer)
    trainer.train()
    batches.clear()
    trainer.args.max_steps = 8  # by now some pairs are beyond their bounds
    trainer.train()
    assert sum(logged(trainer, "dynamic_pairs/dead_done")) + sum(logged(trainer, "dynamic_pairs/dead_stuck")) > 0
    assert all(batch["live_pairs"].all() for batch in batches)
    assert [batch["live_pairs"].numel() for batch in batches] == [2] * len(batches)


def test_a_shrunk_step_is_the_mean_over_its_live_pairs(tmp_path):
    """With a budget of one no pair is replaced: the dead ones must not count."""
    changes = {**STEEP, "pair_budget": 1.0, "max_steps": 1, "gradient_accumulation_steps": 1}
    trainer = pg_dpo_trainer(
        tmp_path, pairs(8), far_reference(), dynamic_pairs=True, per_device_train_batch_size=8, **changes
    )
    inputs = trainer.data_collator(list(trainer.train_dataset))
    reference = torch.stack(trainer.compute_ref_log_probs(trainer.ref_model, inputs))
    policy = torch.stack(trainer.compute_ref_log_probs(trainer.model, inputs))
    chosen, rejected = (policy - reference).exp()
    live = (chosen <= 1.2) | (rejected >= 0.8)
    expected = ((rejected.clamp(min=0.8) - chosen.clamp(max=1.2)) / 2)[live].mean()
    trainer.train()
    assert 0 < live.sum() < 8
    assert logged(trainer, "dynamic_pairs/kept_pairs") == [live.sum().item()]
    assert logged(trainer, "loss") == [pytest.approx(expected.item(), rel=1e-4)]


def test_training_ends_in_good_order_when_every_pair_is_beyond_its_bounds(tmp_path):
    changes = {**STEEP, "learning_rate": 1e-2, "max_steps": 200, "save_strategy": "steps", "weight_decay": 0.1}
    trainer = pg_dpo_trainer(tmp_path, pairs(6), dynamic_pairs=True, save_steps=1000, **changes)
    seen = []
    original = trainer.create_optimizer().step

    def watched(*args, **kwargs):
        result = original(*args, **kwargs)
        seen.append(weights(trainer).clone())
        return result

    trainer.optimizer.step = watched
    result = trainer.train()
    assert 0 < result.global_step < 200
    assert trainer.stop_reason.startswith("It has converged: of all 6 pairs")
    assert torch.equal(seen[-1], weights(trainer))
    assert (tmp_path / f"checkpoint-{result.global_step}" / "model.safetensors").exists()
    assert logged(trainer, "dynamic_pairs/kept_pairs")[-1] == 0
    # The claim, by the log-probabilities of the final policy
    inputs = trainer.data_collator(list(trainer.train_dataset))
    reference = torch.stack(trainer.compute_ref_log_probs(trainer.ref_model, inputs))
    policy = torch.stack(trainer.compute_ref_log_probs(trainer.model, inputs))
    chosen, rejected = (policy - reference).exp()
    assert (chosen > 1.2).all()
    assert (rejected < 0.8).all()


def test_adapters_and_iterable_datasets(tmp_path):
    rows = pairs(12).to_list()
    lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lora_dropout=0.3)
    trainer = pg_dpo_trainer(
        tmp_path,
        IterableDataset.from_generator(lambda: iter(rows)),
        {"peft_config": lora},
        dynamic_pairs=True,
        max_steps=20,
        **{**STEEP, "learning_rate": 5e-2},
    )
    trainer.train()
    rates = logged(trainer, "dynamic_pairs/accept_rate")
    assert rates[0] == 1.0
    assert min(rates) < 1.0


def test_resuming_equals_not_stopping(tmp_path):
    changes = {**STEEP, "max_steps": 12, "save_strategy": "steps", "save_steps": 6, "dynamic_pairs": True}
    whole = pg_dpo_trainer(tmp_path / "whole", pairs(24), far_reference(), **changes)
    whole.train()
    resumed = pg_dpo_trainer(tmp_path / "resumed", pairs(24), far_reference(), **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert sum(logged(whole, "dynamic_pairs/dead_done")[:6]) > 0
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.sampler.state() == whole.sampler.state()
