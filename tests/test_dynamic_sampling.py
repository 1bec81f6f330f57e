"""Dynamic sampling through the real trainer."""

import math

import pandas as pd
import pytest
import torch
from datasets import IterableDataset

from dapo_ext import GenerationBudgetExhausted
from tests.tiny import dapo_trainer, distinct, logged, odd_length, prompts, rare_first_token, weights


BUDGET = 3.0  # small, so that exhausting it is quick
GROUPS = 4  # of a batch, see tests/tiny.py


class Counting:
    """A reward of 0 for every completion of the first `dead` groups that are scored, 0/1 by length afterwards."""

    __name__ = "counting"

    def __init__(self, dead: int, num_generations: int = 4):
        self.dead_rows = dead * num_generations
        self.scored = 0

    def __call__(self, completion_ids, **kwargs):
        rewards = []
        for _ in completion_ids:
            alive = self.scored >= self.dead_rows
            rewards.append(float(self.scored % 2) if alive else 0.0)
            self.scored += 1
        return rewards


def constant(value):
    def constant_reward(completion_ids, **kwargs):
        return [value] * len(completion_ids)

    return constant_reward


def test_every_trained_group_is_informative_and_the_shape_is_kept(tmp_path):
    trainer = dapo_trainer(tmp_path, rare_first_token, max_steps=8)
    generations = []
    original = trainer._generate_and_score_completions

    def spy(inputs):
        batch = original(inputs)
        generations.append(batch)
        return batch

    trainer._generate_and_score_completions = spy
    trainer.train()
    assert len(generations) == 4
    for batch in generations:
        assert len(batch["advantages"]) == 4 * GROUPS
        scored = torch.tensor(rare_first_token(batch["completion_ids"])).view(GROUPS, 4)
        assert (scored.amax(dim=1) != scored.amin(dim=1)).all()
        assert (batch["advantages"] != 0).view(GROUPS, 4).any(dim=1).all()
    ledger = trainer.sampler.ledger
    assert ledger.trained_groups == ledger.informative_groups == 4 * GROUPS
    assert ledger.generated_groups > ledger.trained_groups
    assert trainer.state.global_step == 8


def test_one_missing_group_costs_one_group(tmp_path):
    trainer = dapo_trainer(tmp_path, Counting(dead=1), max_steps=2, soft_overlong_cache=0)
    trainer.train()
    assert logged(trainer, "dynamic_sampling/generated_groups") == [GROUPS + 1]
    assert logged(trainer, "dynamic_sampling/rounds") == [2]
    assert logged(trainer, "dynamic_sampling/dead_all_wrong") == [1]
    assert logged(trainer, "dynamic_sampling/accept_rate") == [GROUPS / (GROUPS + 1)]


def test_surplus_is_counted(tmp_path):
    trainer = dapo_trainer(tmp_path, Counting(dead=3), max_steps=2)
    trainer.train()
    # One of four informative: the rate (1 + 1) / (4 + 1) asks for 3 / 0.4 = 7.5 groups, capped at a batch of four
    assert logged(trainer, "dynamic_sampling/generated_groups") == [2 * GROUPS]
    assert logged(trainer, "dynamic_sampling/kept_groups") == [GROUPS]
    assert logged(trainer, "dynamic_sampling/surplus") == [1]


def test_the_budget_is_never_exceeded_and_shrink_trains_on_what_there_is(tmp_path):
    reward = Counting(dead=11)  # the budget holds 12 groups: one is informative
    trainer = dapo_trainer(tmp_path, reward, max_steps=1, gradient_accumulation_steps=2, generation_budget=BUDGET)
    before = weights(trainer).clone()
    trainer.train()
    assert logged(trainer, "dynamic_sampling/generated_groups") == [BUDGET * GROUPS]
    assert logged(trainer, "dynamic_sampling/exhausted") == [1.0]
    assert logged(trainer, "dynamic_sampling/kept_groups") == [1]
    assert not torch.equal(weights(trainer), before)
    assert trainer.sampler.ledger.informative_fraction == 1 / GROUPS


def test_dead_rows_leave_loss_and_denominator(tmp_path):
    """With one informative group of four, the loss is the mean over that group's tokens alone."""
    trainer = dapo_trainer(
        tmp_path, Counting(dead=11), max_steps=1, gradient_accumulation_steps=2, generation_budget=BUDGET
    )
    trainer.train()
    masks = [batch["completion_mask"] * batch["tool_mask"] for batch in trainer._buffered_inputs]
    live_rows = sum(int(mask.any(dim=1).sum()) for mask in masks)
    live_tokens = sum(int(mask.sum()) for mask in masks)
    assert live_rows == trainer.num_generations
    assert [int(batch["num_items_in_batch"]) for batch in trainer._buffered_inputs] == [live_tokens] * 2


def test_raise_ends_with_the_diagnosis(tmp_path):
    trainer = dapo_trainer(tmp_path, Counting(dead=11), on_exhausted="raise", generation_budget=BUDGET)
    with pytest.raises(
        GenerationBudgetExhausted, match=r"12 groups were generated .* and 1 of the 4 wanted .* too hard"
    ):
        trainer.train()


@pytest.mark.parametrize(
    ("reward", "cause"),
    [
        (constant(0.0), "too hard"),
        (constant(1.0), "too easy"),
        (constant(0.1), "returns one value"),
        (constant(None), "None or NaN"),
        (constant(math.nan), "None or NaN"),
    ],
    ids=["all wrong", "all correct", "one value", "None", "NaN"],
)
def test_a_pool_without_informative_groups_ends_in_good_order_and_moves_nothing(tmp_path, reward, cause):
    trainer = dapo_trainer(tmp_path, reward, generation_budget=BUDGET, save_strategy="steps", weight_decay=0.1)
    before = weights(trainer).clone()
    result = trainer.train()
    assert torch.equal(weights(trainer), before)
    assert result.global_step == 0
    assert cause in trainer.stop_reason
    assert (tmp_path / "checkpoint-0" / "model.safetensors").exists()
    assert logged(trainer, "dynamic_sampling/generated_groups") == [BUDGET * GROUPS]


def test_training_that_runs_dry_later_keeps_momentum_from_moving_the_weights(tmp_path):
    class RunsDry:
        """Informative until the policy has made two optimizer steps, then 0 for all."""

        __name__ = "runs_dry"

        def __call__(self, completion_ids, trainer_state, **kwargs):
            return odd_length(completion_ids) if trainer_state.global_step < 2 else [0.0] * len(completion_ids)

    short = dapo_trainer(tmp_path / "short", RunsDry(), max_steps=2, generation_budget=BUDGET)
    short.train()
    trainer = dapo_trainer(tmp_path / "long", RunsDry(), max_steps=10, generation_budget=BUDGET)
    trainer.train()
    assert trainer.state.global_step == 2
    assert torch.equal(weights(trainer), weights(short))
    assert "too hard" in trainer.stop_reason
    trainer.reward_funcs[0] = odd_length
    trainer.train()
    assert trainer.state.global_step == 10
    assert trainer.stop_reason is None


def test_an_optimizer_step_without_live_rows_moves_nothing(tmp_path):
    """One live group of two rows in eight optimizer steps: most steps have nothing to train on."""
    changes = {"num_generations": 2, "per_device_train_batch_size": 1, "steps_per_generation": 8}
    trainer = dapo_trainer(
        tmp_path,
        Counting(dead=11, num_generations=2),
        max_steps=8,
        generation_budget=BUDGET,
        weight_decay=0.1,
        **changes,
    )
    moved = []
    step = trainer.create_optimizer().step

    def watched(*args, **kwargs):
        before = weights(trainer).clone()
        result = step(*args, **kwargs)
        moved.append(not torch.equal(before, weights(trainer)))
        return result

    trainer.optimizer.step = watched
    trainer.train()
    live = [bool((batch["completion_mask"] * batch["tool_mask"]).any()) for batch in trainer._buffered_inputs]
    assert sum(live) == 2
    assert moved == live


def test_eight_equal_rewards_of_a_tenth_are_dead(tmp_path):
    changes = {"num_generations": 8, "per_device_train_batch_size": 8, "generation_budget": 2.0}
    trainer = dapo_trainer(tmp_path, constant(0.1), **changes)
    trainer.train()
    assert trainer.state.global_step == 0
    assert torch.tensor([0.1] * 8).std() > 0  # what `std > 0` would have kept


def test_a_length_penalty_cannot_make_an_all_wrong_group_look_informative(tmp_path):
    """The overlong punishment differs within almost every group; the task reward never does."""
    trainer = dapo_trainer(tmp_path, constant(0.0), soft_overlong_cache=8, generation_budget=BUDGET)
    trainer.train()
    assert trainer.state.global_step == 0
    (shortest,), (longest,) = (logged(trainer, f"completions/{end}_length") for end in ("min", "max"))
    assert shortest < longest  # so the punishment, which starts at the first token here, did differ
    assert logged(trainer, "dynamic_sampling/dead_all_wrong") == [BUDGET * GROUPS]


def test_filter_rewards_names_who_decides(tmp_path):
    def format_reward(completion_ids, **kwargs):
        return [len(ids) / 10 for ids in completion_ids]

    wrong = constant(0.0)
    wrong.__name__ = "accuracy"
    everyone = dapo_trainer(tmp_path / "all", [wrong, format_reward], generation_budget=BUDGET, max_steps=2)
    everyone.train()
    assert everyone.state.global_step == 2  # the format alone makes groups informative
    accuracy = dapo_trainer(
        tmp_path / "one", [wrong, format_reward], generation_budget=BUDGET, filter_rewards=["accuracy"]
    )
    accuracy.train()
    assert accuracy.state.global_step == 0


def test_the_deciding_sum_is_weighted(tmp_path):
    opposite = [odd_length, lambda completion_ids, **kwargs: [1 - value for value in odd_length(completion_ids)]]
    trainer = dapo_trainer(tmp_path, opposite, reward_weights=[1.0, 1.0], generation_budget=BUDGET)
    trainer.train()
    assert trainer.state.global_step == 0  # the two always sum to 1
    trainer = dapo_trainer(tmp_path, opposite, reward_weights=[1.0, 0.5], generation_budget=BUDGET, max_steps=2)
    trainer.train()
    assert trainer.state.global_step == 2


def test_unscored_completions_neither_decide_nor_train(tmp_path):
    def half_scored(completion_ids, **kwargs):
        return [None if i % 2 else float(i % 4 == 0) for i in range(len(completion_ids))]

    trainer = dapo_trainer(tmp_path, half_scored, max_steps=2)
    trainer.train()
    assert logged(trainer, "dynamic_sampling/accept_rate") == [1.0]
    live = [(batch["completion_mask"] * batch["tool_mask"]).any(dim=1) for batch in trainer._buffered_inputs]
    assert torch.cat(live).sum() == 8  # the other half of the 16 rows has no reward
    # The punishment did not revive them: two rows of a group, 1 and 0 before the punishment
    assert all(math.isfinite(loss) for loss in logged(trainer, "loss"))


def test_an_infinite_reward_is_an_error_that_names_the_function(tmp_path):
    trainer = dapo_trainer(tmp_path, constant(math.inf))
    with pytest.raises(ValueError, match=r"'constant_reward' returned inf \(float\) as the reward of completion 0"):
        trainer.train()


def test_iterable_datasets_work(tmp_path):
    rows = prompts(32).to_list()
    stream = IterableDataset.from_generator(lambda: iter(rows))
    trainer = dapo_trainer(tmp_path, rare_first_token, dataset=stream, max_steps=8)
    trainer.train()
    assert trainer.state.global_step == 8
    assert trainer.sampler.ledger.informative_fraction == 1.0
    assert trainer.sampler.ledger.generated_groups > 4 * GROUPS


def test_a_refill_does_not_repeat_the_batchs_prompts(tmp_path):
    seen = []

    def recording(prompts, completion_ids, **kwargs):
        seen.append(prompts[::4])
        return [0.0] * len(prompts)

    dapo_trainer(tmp_path, recording, dataset=prompts(12), generation_budget=3.0).train()
    drawn = [prompt for part in seen for prompt in part]
    assert len(drawn) == len(set(drawn)) == 12


def test_schedule_and_progress_count_optimizer_steps_as_in_trl(tmp_path):
    changes = {"num_train_epochs": 1, "max_steps": -1, "lr_scheduler_type": "linear"}
    trainer = dapo_trainer(tmp_path, rare_first_token, dataset=prompts(16), **changes)
    trainer.train()
    assert trainer.state.global_step == trainer.state.max_steps == 8  # 16 prompts, 4 a generation, 2 steps each
    assert trainer.state.epoch == 1.0
    assert logged(trainer, "learning_rate")[-1] == pytest.approx(1e-3 / 8)


def test_the_curves_cover_everything_generated(tmp_path):
    scored = []

    def recording(completion_ids, **kwargs):
        rewards = rare_first_token(completion_ids)
        scored.extend(zip(map(len, completion_ids), rewards, strict=True))
        return rewards

    trainer = dapo_trainer(tmp_path, recording, max_steps=2, soft_overlong_cache=0)
    trainer.train()
    lengths = torch.tensor([float(length) for length, _ in scored])
    rewards = torch.tensor([reward for _, reward in scored])
    assert len(scored) > 16
    (mean,) = logged(trainer, "rewards/recording/mean")
    assert mean == pytest.approx(rewards.mean().item())
    assert logged(trainer, "reward") == [pytest.approx(mean)]
    assert logged(trainer, "dynamic_sampling/reward_all") == [pytest.approx(mean)]
    assert logged(trainer, "reward_std") == [pytest.approx(rewards.std().item())]
    assert logged(trainer, "completions/mean_length") == [pytest.approx(lengths.mean().item())]
    assert logged(trainer, "completions/max_length") == [lengths.max().item()]
    dead = (rewards.view(-1, 4).std(dim=1) == 0).float().mean().item()
    assert logged(trainer, "frac_reward_zero_std") == [pytest.approx(dead)]
    assert logged(trainer, "dynamic_sampling/tokens_per_kept_group") == [pytest.approx(lengths.sum().item() / GROUPS)]
    assert logged(trainer, "dynamic_sampling/reward_kept")[0] != mean


def test_log_metric_covers_everything_generated(tmp_path):
    calls = []

    def logging_reward(completion_ids, log_metric, **kwargs):
        calls.append(len(completion_ids))
        log_metric("rows", float(len(completion_ids)))
        return rare_first_token(completion_ids)

    trainer = dapo_trainer(tmp_path, logging_reward, max_steps=2)
    trainer.train()
    assert len(calls) > 1
    assert logged(trainer, "rows") == [pytest.approx(sum(calls) / len(calls))]


def test_the_completions_table_keeps_rows_aligned_and_marks_them(tmp_path):
    def logging_reward(completions, completion_ids, log_extra, **kwargs):
        log_extra("tokens", [len(ids) for ids in completion_ids])
        log_extra("text", list(completions))
        return rare_first_token(completion_ids)

    trainer = dapo_trainer(tmp_path, logging_reward, max_steps=4, log_completions=True, num_completions_to_print=0)
    trainer.train()
    table = pd.read_parquet(tmp_path / "completions" / "completions_00003.parquet")
    generated = int(logged(trainer, "dynamic_sampling/generated_groups")[1])
    assert len(table) == 4 * generated > 16
    assert table["kept"].sum() == 16
    assert (table["text"] == table["completion"]).all()
    kept, dropped = table[table["kept"]], table[~table["kept"]]
    assert kept["advantage"].notna().all()
    assert dropped["advantage"].isna().all()
    assert (kept.groupby(kept.index // 4)["logging_reward"].nunique() == 2).all()
    assert (table["tokens"] >= table["completion"].str.len()).all()


def test_a_column_with_a_value_missing_is_an_error(tmp_path):
    def careless(completion_ids, log_extra, **kwargs):
        log_extra("tokens", [1])
        return rare_first_token(completion_ids)

    with pytest.raises(ValueError, match="pushed 1 values to the column 'tokens'"):
        dapo_trainer(tmp_path, careless).train()


def test_evaluation_is_never_filtered_or_punished(tmp_path):
    trainer = dapo_trainer(
        tmp_path,
        constant(1.0),
        trainer_args={"eval_dataset": prompts(8)},
        per_device_eval_batch_size=8,
        soft_overlong_cache=8,
        mask_truncated_completions=True,
        log_completions=True,
        num_completions_to_print=0,
    )
    metrics = trainer.evaluate()
    assert metrics["eval_reward"] == 1.0
    assert metrics["eval_rewards/constant_reward/mean"] == 1.0
    assert not any("soft_overlong" in name or "dynamic_sampling" in name for name in metrics)
    assert trainer.sampler.ledger.generated_groups == 0


def test_tables_stay_aligned_when_training_and_evaluation_alternate(tmp_path):
    def logging_reward(prompts, completions, completion_ids, log_extra, **kwargs):
        log_extra("text", list(completions))
        log_extra("question", list(prompts))
        return rare_first_token(completion_ids)

    trainer = dapo_trainer(
        tmp_path,
        logging_reward,
        trainer_args={"eval_dataset": prompts(8)},
        per_device_eval_batch_size=8,
        eval_strategy="steps",
        eval_steps=1,
        eval_on_start=True,
        log_completions=True,
        num_completions_to_print=0,
    )
    trainer.train()
    tables = [pd.read_parquet(file) for file in sorted((tmp_path / "completions").glob("*.parquet"))]
    for table in tables:
        assert (table["text"] == table["completion"]).all()
        assert (table["question"] == table["prompt"]).all()
    of_evaluation = pd.concat(tables)["kept"].isna()
    assert of_evaluation.any()
    assert not of_evaluation.all()


def test_three_shrunk_batches_in_a_row_warn_once(tmp_path, caplog):
    trainer = dapo_trainer(tmp_path, SparselyInformative(), max_steps=10, generation_budget=1.0)
    trainer.train()
    warnings = [record.message for record in caplog.records if "batches in a row were shrunk" in record.message]
    assert len(warnings) == 1
    assert "too hard" in warnings[0]
    assert trainer.state.global_step == 10


class SparselyInformative:
    """One informative group in every batch of four."""

    __name__ = "sparse"

    def __call__(self, completion_ids, **kwargs):
        return [float(i == 0) for i in range(len(completion_ids))]


def test_the_same_seed_gives_the_same_run(tmp_path):
    runs = []
    for name in ("first", "second"):
        runs.append(dapo_trainer(tmp_path / name, rare_first_token, max_steps=6))
        runs[-1].train()
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert logged(runs[0], "reward") == logged(runs[1], "reward")


def test_a_resumed_run_draws_the_prompts_the_whole_run_drew(tmp_path):
    """At a generation boundary of the first epoch, where the host's own resume is exact, the whole run is."""
    whole = dapo_trainer(tmp_path / "whole", rare_first_token, max_steps=8, save_strategy="steps", save_steps=4)
    whole.train()
    resumed = dapo_trainer(tmp_path / "resumed", rare_first_token, max_steps=8)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert torch.equal(weights(resumed), weights(whole))
    assert resumed.sampler.state().values == whole.sampler.state().values


def test_a_checkpoint_written_without_dynamic_sampling_is_resumed_with_a_warning(tmp_path, caplog):
    without = dapo_trainer(tmp_path / "a", max_steps=2, save_strategy="steps", save_steps=2, dynamic_sampling=False)
    without.train()
    resumed = dapo_trainer(tmp_path / "b", max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
    assert resumed.state.global_step == 4
    assert any("holds no dynamic_sampling.json" in record.message for record in caplog.records)


def test_distinct_rewards_need_no_refill(tmp_path):
    trainer = dapo_trainer(tmp_path, distinct, max_steps=4)
    trainer.train()
    assert logged(trainer, "dynamic_sampling/rounds") == [1, 1]
    assert logged(trainer, "dynamic_sampling/accept_rate") == [1.0, 1.0]
