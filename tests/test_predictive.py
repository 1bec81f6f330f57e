"""Predictive prompt selection through the real trainer."""

import numpy as np
import pytest
from datasets import IterableDataset

from tests.test_refusals import refused
from tests.tiny import dapo_trainer, logged, prompts


PREDICTIVE = {"prompt_selection": "predictive", "soft_overlong_cache": 0}
GROUPS = 4  # of a batch, see tests/tiny.py
G = 4


def pool(size: int = 32):
    """Every fourth prompt is right half the time; of the others one is always right and two are always wrong."""
    return prompts(size).add_column("kind", [("even", "solved", "hopeless", "hopeless")[i % 4] for i in range(size)])


class ByKind:
    """Rewards by the prompt's kind; remembers which prompts were generated."""

    __name__ = "by_kind"

    def __init__(self, right: float = 1.0, wrong: float = 0.0):
        self.values = {"even": None, "solved": right, "hopeless": wrong}
        self.right, self.wrong = right, wrong
        self.kinds: list[str] = []
        self.prompts: list[list[str]] = []  # of each round

    def __call__(self, prompts, completion_ids, kind, **kwargs):
        self.kinds += kind[::G]
        self.prompts.append(prompts[::G])
        half = [self.right if i % 2 else self.wrong for i in range(len(kind))]
        return [half[i] if self.values[k] is None else self.values[k] for i, k in enumerate(kind)]


def test_it_generates_few_groups_that_give_nothing(tmp_path):
    generated = {}
    for selection in ("uniform", "predictive"):
        reward = ByKind()
        trainer = dapo_trainer(
            tmp_path / selection, reward, pool(), max_steps=60, **{**PREDICTIVE, "prompt_selection": selection}
        )
        trainer.train()
        ledger = trainer.sampler.ledger
        assert ledger.informative_fraction == 1
        later = np.array(reward.kinds[len(reward.kinds) // 2 :])
        generated[selection] = 1 / (later == "even").mean()
    assert generated["uniform"] > 3
    assert generated["predictive"] < 1.4


def test_the_first_round_is_chosen_too(tmp_path):
    reward = ByKind()
    trainer = dapo_trainer(tmp_path, reward, pool(), max_steps=60, **PREDICTIVE)
    trainer.train()
    dataset = pool()
    even = {row["prompt"] for row in dataset if row["kind"] == "even"}
    first_rounds = [part for part, size in zip(reward.prompts, _first_of_batch(trainer, reward), strict=True) if size]
    share = np.mean([prompt in even for part in first_rounds[10:] for prompt in part])
    assert share > 0.7  # a quarter of the pool
    assert all(len(part) <= GROUPS for part in reward.prompts)


def _first_of_batch(trainer, reward) -> list[bool]:
    """Which rounds were the first of their batch."""
    flags = []
    for rounds in logged(trainer, "dynamic_sampling/rounds"):
        flags += [True] + [False] * (int(rounds) - 1)
    assert len(flags) == len(reward.prompts)
    return flags


def test_one_batch_draws_no_prompt_twice(tmp_path):
    reward = ByKind()
    trainer = dapo_trainer(tmp_path, reward, pool(), max_steps=20, **PREDICTIVE)
    trainer.train()
    batches: list[list[str]] = []
    for part, first in zip(reward.prompts, _first_of_batch(trainer, reward), strict=True):
        batches = [*batches, part] if first else [*batches[:-1], batches[-1] + part]
    assert all(len(batch) == len(set(batch)) for batch in batches)


def test_the_metrics_say_what_was_predicted_and_what_came(tmp_path):
    reward = ByKind()
    trainer = dapo_trainer(tmp_path, reward, pool(), max_steps=60, **PREDICTIVE)
    trainer.train()
    generated = logged(trainer, "dynamic_sampling/generated_groups")
    assert sum(generated) == len(reward.kinds)
    realised = np.average(logged(trainer, "prompt_selection/realised_accept_rate"), weights=generated)
    predicted = np.average(logged(trainer, "prompt_selection/predicted_accept_rate"), weights=generated)
    assert realised == pytest.approx(np.mean(np.array(reward.kinds) == "even"))
    assert logged(trainer, "prompt_selection/realised_accept_rate") == logged(trainer, "dynamic_sampling/accept_rate")
    assert predicted == pytest.approx(realised, abs=0.15)
    assert logged(trainer, "prompt_selection/exploration_share")[-1] == sum(generated) // 20 / sum(generated)
    assert logged(trainer, "prompt_selection/coverage")[-1] == 1.0
    pools = [logged(trainer, f"prompt_selection/{name}")[-1] for name in ("effective_pool", "solved", "hopeless")]
    assert pools == [8, 8, 16]


def test_offline_pass_rates_spare_the_search(tmp_path):
    rates = {"even": 0.5, "solved": 1.0, "hopeless": 0.0}
    dataset = pool()
    dataset = dataset.add_column("rate", [rates[kind] for kind in dataset["kind"][:]])
    reward = ByKind()
    dapo_trainer(tmp_path, reward, dataset, max_steps=2, pass_rate_column="rate", **PREDICTIVE).train()
    assert reward.kinds[: GROUPS + 1] == ["even"] * len(reward.kinds[: GROUPS + 1])


def test_graded_rewards_are_learned_as_informative_or_not(tmp_path):
    class Graded(ByKind):
        def __call__(self, prompts, completion_ids, kind, **kwargs):
            rewards = super().__call__(prompts, completion_ids, kind, **kwargs)
            return [
                reward + i % G / 10 if k == "even" else 0.3
                for i, (reward, k) in enumerate(zip(rewards, kind, strict=True))
            ]

    reward = Graded()
    trainer = dapo_trainer(tmp_path, reward, pool(), max_steps=60, **PREDICTIVE)
    trainer.train()
    assert trainer.sampler.prompts.selector.estimates.sees_events
    later = np.array(reward.kinds[len(reward.kinds) // 2 :])
    assert (later == "even").mean() > 0.7
    assert not logged(trainer, "prompt_selection/solved")[-1:]


@pytest.mark.parametrize(("right", "wrong"), [(1.0, -1.0), (1.0, 0.0), (2.0, 0.0)])
def test_two_valued_rewards_are_pass_rates(tmp_path, right, wrong):
    trainer = dapo_trainer(tmp_path, ByKind(right, wrong), pool(), max_steps=10, **PREDICTIVE)
    trainer.train()
    selector = trainer.sampler.prompts.selector
    assert not selector.estimates.sees_events
    even = np.arange(0, 32, 4)
    seen = even[selector.estimates.evidence.seen_at[even] >= 0]
    # Right half the time, so hits and misses are equal but for the trend the pool is believed to have
    assert selector.estimates.evidence.hits[seen] == pytest.approx(selector.estimates.evidence.misses[seen], rel=0.1)


@pytest.mark.parametrize("first", ["right", "wrong"])
def test_a_first_round_of_one_value_decides_nothing(tmp_path, first):
    class OneValueFirst(ByKind):
        def __call__(self, prompts, **kwargs):
            rewards = super().__call__(prompts, **kwargs)
            return [getattr(self, first)] * len(rewards) if len(self.prompts) == 1 else rewards

    trainer = dapo_trainer(tmp_path, OneValueFirst(right=0.7, wrong=0.3), pool(), max_steps=10, **PREDICTIVE)
    trainer.train()
    assert not trainer.sampler.prompts.selector.estimates.sees_events
    assert "prompt_selection/solved" in trainer.state.log_history[0]


def test_unscored_groups_count_as_wrong(tmp_path):
    """A prompt that no reward function can score is not drawn again and again."""
    reward = ByKind()
    reward.values["hopeless"] = float("nan")
    trainer = dapo_trainer(tmp_path, reward, pool(), max_steps=60, **PREDICTIVE)
    trainer.train()
    later = np.array(reward.kinds[len(reward.kinds) // 2 :])
    assert (later == "even").mean() > 0.7


def test_a_pool_that_is_dead_ends_with_the_diagnosis(tmp_path):
    reward = ByKind()
    reward.values["even"] = 0.0
    trainer = dapo_trainer(tmp_path, reward, pool(), max_steps=4, generation_budget=3.0, **PREDICTIVE)
    trainer.train()
    assert trainer.state.global_step == 0
    assert "too hard" in trainer.stop_reason
    assert logged(trainer, "dynamic_sampling/generated_groups") == [3 * GROUPS]


def test_a_dataset_of_one_batch_works(tmp_path):
    trainer = dapo_trainer(tmp_path, ByKind(), pool(4), max_steps=2, **PREDICTIVE)
    trainer.train()
    assert trainer.state.global_step == 2


def test_the_cost_of_a_group_is_learned_from_the_lengths_of_its_completions(tmp_path):
    lengths = {}

    def even_rows(prompts, completion_ids, **kwargs):
        for i in range(0, len(prompts), G):
            lengths[prompts[i]] = np.mean([len(ids) for ids in completion_ids[i : i + G]])
        return [float(i % 2) for i in range(len(prompts))]

    dataset = pool()
    trainer = dapo_trainer(tmp_path, even_rows, dataset, max_steps=2, selection_cost="tokens", **PREDICTIVE)
    trainer.train()  # one generation, in which no prompt is drawn twice
    learned = trainer.sampler.prompts.selector.lengths
    known = {dataset[i]["prompt"]: learned.mean_lengths[i] for i in np.flatnonzero(~np.isnan(learned.mean_lengths))}
    assert known == pytest.approx(lengths)
    assert len(set(learned.relative_cost(np.arange(32)))) > 1
    by_groups = dapo_trainer(tmp_path, even_rows, dataset, **PREDICTIVE).sampler.prompts.selector
    assert by_groups.settings.token_share == 0


class TestRefusals:
    @pytest.mark.parametrize(
        "fields",
        [{**PREDICTIVE, "selection_cost": "seconds"}, {"selection_cost": "tokens"}],
        ids=["unknown", "with uniform selection"],
    )
    def test_costs(self, tmp_path, fields):
        with refused("selection_cost"):
            dapo_trainer(tmp_path, **fields)

    def test_iterable_datasets(self, tmp_path):
        rows = prompts(16).to_list()
        with refused("prompt_selection"):
            dapo_trainer(tmp_path, dataset=IterableDataset.from_generator(lambda: iter(rows)), **PREDICTIVE)

    @pytest.mark.parametrize("values", [["0.5"] * 16, [1.5] * 16, [True] * 16], ids=["text", "above 1", "bool"])
    def test_columns_that_hold_no_pass_rates(self, tmp_path, values):
        dataset = prompts(16).add_column("rate", values)
        with refused("pass_rate_column"):
            dapo_trainer(tmp_path, dataset=dataset, pass_rate_column="rate", **PREDICTIVE)

    def test_a_column_that_is_not_there(self, tmp_path):
        with refused("pass_rate_column"):
            dapo_trainer(tmp_path, pass_rate_column="rate", **PREDICTIVE)

    def test_missing_pass_rates_are_none(self, tmp_path):
        dataset = prompts(16).add_column("rate", [None, 0.5] * 8)
        trainer = dapo_trainer(tmp_path, dataset=dataset, pass_rate_column="rate", **PREDICTIVE)
        assert np.unique(trainer.sampler.prompts.selector.estimates.prior.strata).tolist() == [5, 10]

    def test_a_checkpoint_of_the_other_selection(self, tmp_path):
        dapo_trainer(tmp_path / "a", max_steps=2, save_strategy="steps", save_steps=2).train()
        other = dapo_trainer(tmp_path / "b", max_steps=4, **PREDICTIVE)
        with refused("resume_from_checkpoint"):
            other.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-2"))
