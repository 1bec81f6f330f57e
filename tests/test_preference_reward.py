"""Preferences as rewards: the mathematics, the judge's contract, and real trainers."""

import asyncio
import itertools
import math
import pickle
import random

import pytest
import torch
from datasets import Dataset
from transformers import Qwen3Config, Qwen3ForSequenceClassification
from trl import RewardConfig, RewardTrainer

from dapo_ext.playground.policy import PAD_TOKEN_ID, VOCABULARY, build_tokenizer
from pg_grpo import PreferenceReward
from pg_grpo.pairwise import bradley_terry_strengths, comparison_design, win_rates
from tests.pg_tiny import pg_trainer
from tests.tiny import SMALL, dapo_trainer, logged
from tests.tiny_pairs import DEFAULTS as PAIR_DEFAULTS


# ---- Mathematics ----


def random_wins(size: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    outcomes = torch.randint(0, 3, (size, size), generator=generator).double() / 2
    played = torch.rand(size, size, generator=generator) < 0.8
    wins = torch.zeros(size, size, dtype=torch.float64)
    for i, j in itertools.combinations(range(size), 2):
        if played[i, j]:
            wins[i, j], wins[j, i] = outcomes[i, j], 1 - outcomes[i, j]
    return wins


def brute_force_strengths(wins, regularization):
    """Golden-section search, one coordinate after the other, of the objective written with plain loops."""
    size = len(wins)

    def objective(s):
        value = -regularization / 2 * sum(x * x for x in s)
        for i, j in itertools.permutations(range(size), 2):
            value -= wins[i][j] * math.log1p(math.exp(s[j] - s[i]))
        return value

    strengths, ratio = [0.0] * size, (math.sqrt(5) - 1) / 2
    for _ in range(60):
        for i in range(size):
            low, high = -20.0, 20.0
            while high - low > 1e-9:
                a, b = high - ratio * (high - low), low + ratio * (high - low)
                at = [objective([*strengths[:i], x, *strengths[i + 1 :]]) for x in (a, b)]
                low, high = (low, b) if at[0] > at[1] else (a, high)
            strengths[i] = (low + high) / 2
    return strengths


@pytest.mark.parametrize(("seed", "regularization"), [(0, 1.0), (1, 0.3), (2, 2.5)])
def test_strengths_equal_a_brute_force_maximiser(seed, regularization):
    wins = random_wins(4, seed)
    strengths = bradley_terry_strengths(wins, regularization)
    assert strengths.tolist() == pytest.approx(brute_force_strengths(wins.tolist(), regularization), abs=1e-6)
    assert strengths.sum().item() == pytest.approx(0, abs=1e-9)


def test_strengths_of_two_are_known_in_closed_form():
    """One win: `1 - sigmoid(2 s) = regularization * s` for the winner."""
    strengths = bradley_terry_strengths(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), 0.5)
    winner = strengths[0].item()
    assert 1 - 1 / (1 + math.exp(-2 * winner)) == pytest.approx(0.5 * winner, abs=1e-9)
    assert strengths[1].item() == pytest.approx(-winner)


@pytest.mark.parametrize("regularization", [1e-3, 1.0, 1e3])
def test_strengths_are_found_for_extreme_outcomes(regularization):
    """One that wins every time, many that tie, a great many games, and a group of 64."""
    ladder = torch.triu(torch.ones(64, 64), diagonal=1)
    strengths = bradley_terry_strengths(ladder, regularization)
    assert (strengths[:-1] > strengths[1:]).all()
    assert bradley_terry_strengths(1e6 * ladder[:4, :4], regularization).isfinite().all()
    assert bradley_terry_strengths(torch.full((5, 5), 0.5), regularization).abs().max() < 1e-9


def test_strengths_tell_whom_a_completion_won_against():
    """Two wins each: over the two best, or over the two worst."""
    wins = torch.zeros(6, 6)
    for winner, loser in [(0, 2), (0, 3), (1, 4), (1, 5), (2, 4), (2, 5), (3, 4), (3, 5)]:
        wins[winner, loser] = 1
    assert win_rates(wins)[0] == win_rates(wins)[1] == 1
    strengths = bradley_terry_strengths(wins, 1.0)
    assert strengths[0] > strengths[1]


def test_win_rates_by_hand():
    wins = torch.tensor([[0.0, 1.0, 0.5, 0.0], [0.0, 0.0, 1.0, 0.0], [0.5, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    assert win_rates(wins)[:3].tolist() == [0.75, 0.5, 0.25]
    assert win_rates(wins)[3].isnan()
    assert bradley_terry_strengths(wins, 1.0)[3].isnan()


@pytest.mark.parametrize("size", [2, 3, 4, 7, 8])
def test_the_design_is_connected_balanced_and_within_budget(size):
    every = {frozenset(pair) for pair in itertools.combinations(range(size), 2)}
    assert {frozenset(pair) for pair in comparison_design(size, None, random.Random(0))} == every
    for comparisons in range(size - 1, len(every) + 3):
        pairs = comparison_design(size, comparisons, random.Random(comparisons))
        assert len(pairs) == len({frozenset(pair) for pair in pairs}) == min(comparisons, len(every))
        reached = {0}
        for _ in range(size):
            reached |= {x for pair in pairs if reached & set(pair) for x in pair}
        assert reached == set(range(size))
        counts = [sum(i in pair for pair in pairs) for i in range(size)]
        assert max(counts) - min(counts) <= 2


def test_either_may_be_shown_first():
    firsts = [comparison_design(2, None, random.Random(seed))[0] for seed in range(200)]
    assert 60 < firsts.count((0, 1)) < 140


# ---- The judge's contract ----


def longer(prompts, completions):
    return [0.5 if len(a) == len(b) else float(len(b) > len(a)) for a, b in completions]


async def longer_async(prompts, completions):
    await asyncio.sleep(0)
    return longer(prompts, completions)


PROMPTS = ["a"] * 4 + ["b"] * 4
COMPLETIONS = ["1", "22", "22", "4444", "7777", "88", "", "9"]
WIN_RATES = [0.0, 0.5, 0.5, 1.0, 1.0, 2 / 3, 0.0, 1 / 3]


def test_win_rates_of_two_groups():
    metrics = {}
    reward = PreferenceReward(longer, num_generations=4)
    rewards = reward(prompts=PROMPTS, completions=COMPLETIONS, answer=[0] * 8, log_metric=metrics.__setitem__)
    assert rewards == pytest.approx(WIN_RATES)
    # The two equal completions are not shown
    assert metrics["preference_reward/comparisons"] == 11
    assert metrics["preference_reward/ties"] == metrics["preference_reward/refusals"] == 0


def test_a_judge_may_answer_with_tensors_of_one_number():
    reward = PreferenceReward(lambda *shown: [torch.tensor(each) for each in longer(*shown)], num_generations=4)
    assert reward(prompts=PROMPTS, completions=COMPLETIONS) == pytest.approx(WIN_RATES)


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_async_judges_give_the_same_and_run_together(batch_size):
    running, most = 0, 0

    async def judge(prompts, completions):
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert len(completions) <= (batch_size or 11)
        answers = await longer_async(prompts, completions)
        running -= 1
        return answers

    reward = PreferenceReward(judge, num_generations=4, batch_size=batch_size)
    assert asyncio.run(reward(prompts=PROMPTS, completions=COMPLETIONS)) == pytest.approx(WIN_RATES)
    assert most == {None: 1, 1: 11, 4: 3}[batch_size]


def test_batches_are_bounded_and_prompts_belong_to_their_pairs():
    calls = []

    def judge(prompts, completions):
        calls.append(len(completions))
        for prompt, pair in zip(prompts, completions, strict=True):
            members = COMPLETIONS[:4] if prompt == "a" else COMPLETIONS[4:]
            assert set(pair) <= set(members)
        return longer(prompts, completions)

    PreferenceReward(judge, num_generations=4, batch_size=4)(prompts=PROMPTS, completions=COMPLETIONS)
    assert calls == [4, 4, 3]


def test_sampled_comparisons_are_counted_and_reproducible():
    for _ in range(2):
        shown = []

        def judge(prompts, completions, shown=shown):
            shown.extend(map(tuple, completions))
            return longer(prompts, completions)

        reward = PreferenceReward(judge, num_generations=8, comparisons=9, seed=3)
        completions = [str(i) * (i + 1) for i in range(8)]
        rewards = reward(prompts=["a"] * 8, completions=completions)
        assert len(shown) == 9
        assert len(set(rewards)) > 2
        assert rewards == reward(prompts=["a"] * 8, completions=completions)
    other = PreferenceReward(longer, num_generations=8, comparisons=9, seed=4)
    assert other(prompts=["a"] * 8, completions=completions) != rewards


def test_a_liking_for_the_first_favours_no_completion():
    reward = PreferenceReward(lambda prompts, completions: [0] * len(completions), num_generations=2)
    rows = [str(i) for i in range(400)]
    rewards = reward(prompts=[str(i // 2) for i in range(400)], completions=rows)
    assert sum(rewards[::2]) == pytest.approx(100, abs=25)


@pytest.mark.parametrize("refused", [None, -1, math.nan])
def test_a_refusal_counts_for_neither_side(refused):
    def judge(prompts, completions):
        return [
            refused if "4444" in pair or "" in pair else verdict
            for pair, verdict in zip(completions, longer(prompts, completions), strict=True)
        ]

    metrics = {}
    reward = PreferenceReward(judge, num_generations=4)
    rewards = reward(prompts=PROMPTS, completions=COMPLETIONS, log_metric=metrics.__setitem__)
    assert rewards == [0.0, 0.75, 0.75, None, 1.0, 0.5, None, 0.0]
    assert metrics["preference_reward/refusals"] == pytest.approx(6 / 11)


def test_strengths_as_rewards_and_conversational_completions():
    messages = [[{"role": "assistant", "content": text}] for text in COMPLETIONS]

    def judge(prompts, completions):
        return longer(prompts, [[a[0]["content"], b[0]["content"]] for a, b in completions])

    reward = PreferenceReward(judge, num_generations=4, reward="bradley_terry", regularization=0.5)
    prompts = [[{"role": "user", "content": text}] for text in PROMPTS]
    rewards = reward(prompts=prompts, completions=messages)
    wins = torch.tensor([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]])  # of the second group, by length
    expected = bradley_terry_strengths(wins, 0.5)
    assert [rewards[i] for i in (4, 5, 7, 6)] == pytest.approx(expected.tolist())
    assert sum(rewards[:4]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (lambda n: [0] * (n - 1), "returned 10 answers to 11 comparisons"),
        (lambda n: 1, "returned 1 instead of a list of 11 answers"),
        (lambda n: "0" * n, "returned '00000000000' instead of a list of 11"),
        (lambda n: [2] * n, "answered 2"),
        (lambda n: [-0.5] * n, "answered -0.5"),
        (lambda n: [True] * n, "answered True"),
        (lambda n: ["first"] * n, "answered 'first'"),
        (lambda n: [math.inf] * n, "answered inf"),
        (lambda n: 1 / 0, "raised ZeroDivisionError"),
    ],
)
def test_nonsense_is_an_error_that_names_the_judge(answers, message):
    def strange(prompts, completions):
        return answers(len(completions))

    async def strange_async(prompts, completions):
        return answers(len(completions))

    rows = {"prompts": PROMPTS, "completions": COMPLETIONS}
    with pytest.raises(ValueError, match=f"The judge 'strange' of 'preference_reward' {message}"):
        PreferenceReward(strange, num_generations=4)(**rows)
    with pytest.raises(ValueError, match=f"The judge 'strange_async' of 'preference_reward' {message}"):
        asyncio.run(PreferenceReward(strange_async, num_generations=4)(**rows))


@pytest.mark.parametrize("prompts", [["a"] * 2 + ["b"] * 4 + ["c"] * 2, ["a"] * 6, ["a"] * 3 + ["b"] * 5], ids=str)
def test_groups_that_straddle_ranks_are_refused_with_the_remedy(prompts):
    with pytest.raises(ValueError, match=r"straddles ranks.*per_device_train_batch_size.*multiple of num_generations"):
        PreferenceReward(longer, num_generations=4)(prompts=prompts, completions=["x"] * len(prompts))


def test_groups_of_evaluation_may_have_another_size():
    reward = PreferenceReward(longer, num_generations=4, num_generations_eval=2)
    assert reward(prompts=PROMPTS, completions=COMPLETIONS) == pytest.approx(WIN_RATES)
    evaluated = reward(prompts=["a", "a", "b", "b"], completions=["1", "22", "333", ""])
    assert evaluated == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_generations": 1}, "`num_generations=1`"),
        ({"num_generations_eval": 1}, "`num_generations=1`"),
        ({"reward": "elo"}, "`reward='elo'`"),
        ({"regularization": 0.0}, r"`regularization=0\.0`"),
        ({"comparisons": 2}, "`comparisons=2`.*4 completions need 3"),
        ({"batch_size": 0}, "`batch_size=0`"),
    ],
    ids=str,
)
def test_values_that_cannot_be_honoured_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        PreferenceReward(longer, **{"num_generations": 4, **changes})


class Shifted(PreferenceReward):
    """A user's: another scale, and a constructor of its own."""

    def __init__(self, judge, shift: float):
        super().__init__(judge, num_generations=4, name="shifted")
        self.shift = shift

    def _finish(self, *args):
        return [reward + self.shift for reward in super()._finish(*args)]


@pytest.mark.parametrize("judge", [longer, longer_async])
def test_a_subclass_stays_what_it_is(tmp_path, judge):
    reward = pickle.loads(pickle.dumps(Shifted(judge, shift=2.0)))
    assert type(reward) is Shifted
    trainer = pg_trainer(tmp_path, reward, max_steps=1)
    trainer.train()
    assert logged(trainer, "rewards/shifted/mean") == pytest.approx([2.5])


def test_an_instance_can_be_pickled():
    for judge in (longer, longer_async):
        restored = pickle.loads(pickle.dumps(PreferenceReward(judge, num_generations=4, name="mine")))
        assert restored.__name__ == "mine"
        result = restored(prompts=PROMPTS, completions=COMPLETIONS)
        assert (asyncio.run(result) if judge is longer_async else result) == pytest.approx(WIN_RATES)


# ---- Real trainers ----


@pytest.mark.parametrize("judge", [longer, longer_async])
def test_win_rates_train_a_policy(tmp_path, judge):
    reward = PreferenceReward(judge, num_generations=4)
    trainer = pg_trainer(tmp_path, reward, max_steps=2)
    trainer.train()
    means = logged(trainer, "rewards/preference_reward/mean")
    assert means == pytest.approx([0.5] * len(means))  # whatever is won, another completion lost
    assert logged(trainer, "preference_reward/comparisons")[0] > 0
    assert logged(trainer, "grad_norm")[0] > 0


def test_dynamic_sampling_says_that_it_has_little_to_filter(tmp_path, caplog):
    reward = PreferenceReward(longer, num_generations=4)
    trainer = dapo_trainer(tmp_path / "alone", reward, max_steps=2)
    assert "preference_reward compares the completions of a group" in caplog.text
    assert "nearly every group is informative" in caplog.text
    trainer.train()
    assert logged(trainer, "dynamic_sampling/accept_rate")[0] == pytest.approx(1.0, abs=0.3)
    caplog.clear()

    def ends(completion_ids, **kwargs):
        return [float(len(ids) % 2) for ids in completion_ids]

    dapo_trainer(tmp_path / "other", [reward, ends], filter_rewards=["ends"])
    dapo_trainer(tmp_path / "off", reward, dynamic_sampling=False)
    assert "compares the completions" not in caplog.text


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory):
    """Trained with TRL's RewardTrainer on pairs whose chosen has a 7 in front."""
    rng = random.Random(0)

    def text(leading: str) -> str:
        return leading + "".join(rng.choice(VOCABULARY[4:]) for _ in range(rng.randint(1, 6)))

    def make_pairs(size: int) -> Dataset:
        others = [token for token in VOCABULARY[4:] if token != "7"]
        rows = [{"prompt": "1=", "chosen": text("7"), "rejected": text(rng.choice(others))} for _ in range(size)]
        return Dataset.from_list(rows)

    torch.manual_seed(0)
    config = Qwen3Config(vocab_size=len(VOCABULARY), num_labels=1, pad_token_id=PAD_TOKEN_ID, dtype="float32", **SMALL)
    layout = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "logging_steps": 80}
    trainer = RewardTrainer(
        model=Qwen3ForSequenceClassification(config),
        args=RewardConfig(
            str(tmp_path_factory.mktemp("reward")),
            **{**PAIR_DEFAULTS, **layout, "learning_rate": 1e-2, "max_steps": 80},
        ),
        train_dataset=make_pairs(512),
        eval_dataset=make_pairs(64),
        processing_class=build_tokenizer(),
    )
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9
    trainer.model.config._name_or_path = "reward_model"
    return trainer.model.eval()


@pytest.mark.parametrize("build_trainer", [dapo_trainer, pg_trainer])
def test_a_reward_model_trained_from_pairs_rewards_a_policy(tmp_path, reward_model, build_trainer):
    """The chain pairs -> reward model -> policy."""
    tokenizer, seen = build_tokenizer(), []

    def leading_seven(prompts, completions, **kwargs):
        seen.extend(prompt + completion for prompt, completion in zip(prompts, completions, strict=True))
        return [float(text.startswith("7")) for text in completions]

    trainer = build_trainer(
        tmp_path,
        [reward_model, leading_seven],
        trainer_args={"reward_processing_classes": [tokenizer, None]},
        reward_weights=[1.0, 0.0],
        learning_rate=1e-2,
        max_steps=40,
        soft_overlong_cache=0,
    )
    trainer.train()
    inputs = tokenizer(text=seen[:16], return_tensors="pt", padding=True, padding_side="right")
    with torch.no_grad():
        scores = reward_model(**inputs).logits[:, 0]
    rewards, share = (logged(trainer, f"rewards/{name}/mean") for name in ("reward_model", "leading_seven"))
    assert rewards[0] == pytest.approx(scores.mean().item(), rel=1e-4)
    assert sum(rewards[-3:]) > sum(rewards[:3]) + 3
    assert sum(share[-3:]) / 3 > 0.5 > sum(share[:3]) / 3
