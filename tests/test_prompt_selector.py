"""Choosing prompts: what share is exploration, who comes back, and that nothing but seed and observations decides."""

import time
from dataclasses import replace

import numpy as np
import pytest

from dapo_ext.prompt_selection import PromptSelector, SelectionSettings
from dapo_ext.prompt_selection.drift import Drift
from dapo_ext.prompt_selection.evidence import NEVER
from dapo_ext.prompt_selection.lengths import CompletionLengths


G = 8
BATCH = 16


def selector(size: int = 256, seed: int = 0, **settings) -> PromptSelector:
    return PromptSelector(size, G, BATCH, seed, settings=replace(SelectionSettings(), **settings))


def observe(chooser: PromptSelector, draw, right: np.ndarray, binary: bool = True) -> None:
    chooser.observe(draw, right, (right > 0) & (right < G), binary, np.ones(len(right)))


def train(chooser: PromptSelector, pass_rates: np.ndarray, generations: int, seed: int = 0) -> list:
    """Let the selector learn from groups of fixed pass rates; returns the draws."""
    rng = np.random.default_rng(seed)
    draws = []
    for _ in range(generations):
        chooser.start_generation()
        draws.append(chooser.draw(BATCH, BATCH))
        observe(chooser, draws[-1], rng.binomial(G, pass_rates[draws[-1].positions]))
    return draws


def bimodal(size: int = 256) -> np.ndarray:
    """A quarter of the prompts is in between, the rest solved or hopeless."""
    return np.resize([0.5, 1.0, 0.0, 1.0], size)


def test_it_finds_the_prompts_in_between():
    rates = bimodal()
    draws = train(selector(), rates, generations=60)
    chosen = np.concatenate([draw.positions for draw in draws[30:]])
    selected = ~np.concatenate([draw.explored for draw in draws[30:]])
    assert (rates[chosen[selected]] == 0.5).mean() > 0.95
    assert set(rates[chosen[~selected]]) == {0.0, 0.5, 1.0}


def test_it_predicts_what_will_be_informative():
    rng = np.random.default_rng(1)
    rates = rng.beta(0.3, 0.3, 2000)
    draws = train(selector(2000), rates, generations=300)
    predicted = np.concatenate([draw.predicted for draw in draws[50:]])
    truth = np.concatenate([rates[draw.positions] for draw in draws[50:]])
    realised = 1 - truth**G - (1 - truth) ** G
    assert predicted.mean() == pytest.approx(realised.mean(), abs=0.03)
    assert np.corrcoef(predicted, realised)[0, 1] > 0.6


def train_on_a_moving_policy() -> tuple[float, float]:
    """Every prompt gains a tenth of log-odds with each generation: mean predicted and true chance of what is drawn."""
    rng = np.random.default_rng(1)
    log_odds = rng.uniform(-6, 2, 400)
    chooser = selector(400)
    predicted, realised = [], []
    for generation in range(60):
        rates = 1 / (1 + np.exp(-log_odds - 0.1 * generation))
        chooser.start_generation()
        draw = chooser.draw(BATCH, BATCH)
        observe(chooser, draw, rng.binomial(G, rates[draw.positions]))
        if generation >= 20:
            truth = rates[draw.positions]
            predicted.append(draw.predicted.mean())
            realised.append((1 - truth**G - (1 - truth) ** G).mean())
    return np.mean(predicted), np.mean(realised)


def test_it_keeps_up_with_a_policy_that_moves(monkeypatch):
    predicted, realised = train_on_a_moving_policy()
    assert predicted == pytest.approx(realised, abs=0.05)
    monkeypatch.setattr(Drift, "learn", lambda *args: None)
    blind_predicted, blind_realised = train_on_a_moving_policy()
    assert blind_predicted - blind_realised > 0.15  # it takes prompts for what they were
    assert realised - blind_realised > 0.1


@pytest.mark.parametrize("sizes", [[1] * 100, [16] * 50, [7, 20, 3, 1] * 10])
def test_exactly_one_draw_in_twenty_is_exploration(sizes):
    chooser = selector()
    explored = np.concatenate([chooser.draw(size, size).explored for size in sizes])
    assert explored.nonzero()[0].tolist() == list(range(19, len(explored), 20))
    assert chooser.pool_metrics()["exploration_share"] == explored.mean()


def test_no_prompt_falls_below_the_floor_of_exploration():
    """In 20 draws per prompt every prompt has its turn, however hopeless it looks."""
    rates = np.where(np.arange(32) < 16, 0.5, 0.0)
    draws = train(selector(32), rates, generations=20 * 32 // BATCH)
    explored = np.concatenate([draw.positions[draw.explored] for draw in draws])
    assert sorted(explored) == list(range(32))


def test_a_prompt_once_solved_comes_back_when_it_is_forgotten():
    """Without exploration, by forgetting alone: prompt 0 turns from solved to half right."""
    chooser = selector(64, explore_every=10**9, age_discount=0.95)
    rates = np.concatenate([[1.0], np.full(63, 0.5)])
    early = train(chooser, rates, generations=20)
    solved = sum((draw.positions == 0).sum() for draw in early[3:])
    rates[0] = 0.5
    later = train(chooser, rates, generations=200, seed=1)
    share = np.mean([(draw.positions == 0).any() for draw in later[100:]])
    assert solved <= 2
    assert share == pytest.approx(BATCH / 64, abs=0.12)  # as often as any other


def test_a_solved_prompt_that_is_never_forgotten_stays_away():
    chooser = selector(64, explore_every=10**9, age_discount=1.0)
    rates = np.concatenate([[1.0], np.full(63, 0.5)])
    train(chooser, rates, generations=20)
    rates[0] = 0.5
    later = train(chooser, rates, generations=100, seed=1)
    assert sum((draw.positions == 0).sum() for draw in later) <= 2


def test_ties_fall_at_random():
    """Unseen prompts are all alike: over many seeds each is drawn equally often."""
    counts = np.zeros(64)
    for seed in range(400):
        draw = selector(64, seed).draw(BATCH, BATCH)
        counts[draw.positions] += 1
    assert counts.mean() == 100
    assert counts.min() > 60  # four standard deviations are 35
    assert counts.max() < 140


@pytest.mark.parametrize("right", [0, G])
def test_an_all_dead_pool_is_drawn_from_to_the_end(right):
    chooser = selector(64)
    train(chooser, np.full(64, right / G), generations=100)
    draw = chooser.draw(BATCH, BATCH)
    assert len(draw.positions) == len(set(draw.positions.tolist())) == BATCH
    assert draw.predicted.max() < 0.2
    metrics = chooser.pool_metrics()
    assert metrics["effective_pool"] == 0
    assert (metrics["hopeless"], metrics["solved"]) == ((64, 0) if right == 0 else (0, 64))


def test_the_round_is_as_large_as_the_predictions_say():
    draw = selector().draw(missing=12, most=100)
    assert draw.predicted[:-1].sum() < 12 <= draw.predicted.sum()
    wider = selector().draw(missing=12, most=100, margin=1.0)
    spread = (wider.predicted * (1 - wider.predicted)).cumsum() ** 0.5
    assert (wider.predicted.cumsum() - spread)[-2] < 12 <= (wider.predicted.cumsum() - spread)[-1]
    assert len(wider.positions) > len(draw.positions)


def test_rounds_are_shareable_and_never_larger_than_allowed():
    chooser = selector()
    assert len(chooser.draw(missing=5, most=16, multiple=4).positions) % 4 == 0
    assert len(chooser.draw(missing=1000, most=16, multiple=4).positions) == 16


def test_what_is_to_be_avoided_is_drawn_last():
    chooser = selector(20)
    assert set(chooser.draw(4, 4, avoid=range(4, 20), margin=9.0).positions.tolist()) == {0, 1, 2, 3}
    assert len(set(chooser.draw(6, 6, avoid=range(4, 20), margin=9.0).positions.tolist())) == 6


def test_a_dataset_smaller_than_the_round_repeats_itself():
    draw = selector(3).draw(missing=BATCH, most=BATCH, avoid=[1])
    assert len(draw.positions) == BATCH
    assert set(draw.positions.tolist()) == {0, 1, 2}


def test_the_seed_and_what_was_seen_decide_and_nothing_else():
    runs = [train(selector(seed=3), bimodal(), generations=10) for _ in range(2)]
    assert all((a.positions == b.positions).all() for a, b in zip(*runs, strict=True))
    other = train(selector(seed=4), bimodal(), generations=10)
    assert any((a.positions != b.positions).any() for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("binary", [True, False])
def test_a_resumed_selector_continues_where_it_was(binary):
    whole = selector()
    train(whole, bimodal(), generations=12)
    if not binary:
        draw = whole.draw(4, 4)
        observe(whole, draw, np.full(len(draw.positions), 2), binary=False)
    resumed = selector()
    resumed.load_state_dict(whole.state_dict(), whole.array_state())
    runs = [train(chooser, bimodal(), generations=5) for chooser in (whole, resumed)]
    for a, b in zip(*runs, strict=True):
        assert (a.positions == b.positions).all()
        assert (a.predicted == b.predicted).all()
    assert resumed.state_dict() == whole.state_dict()
    for name, array in resumed.array_state().items():
        assert np.array_equal(array, whole.array_state()[name], equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize("binary_there", [True, False])
@pytest.mark.parametrize("binary_here", [True, False])
def test_a_state_replaces_whatever_was_learned_before(binary_there, binary_here):
    """As where a trainer that was interrupted resumes from a checkpoint of its own, before or after the switch."""
    whole, used, fresh = selector(), selector(), selector()
    for chooser, binary in ((whole, binary_there), (used, binary_here)):
        train(chooser, bimodal(), generations=6)
        if not binary:
            draw = chooser.draw(4, 4)
            observe(chooser, draw, np.full(len(draw.positions), 2), binary=False)
    for chooser in (used, fresh):
        chooser.load_state_dict(whole.state_dict(), whole.array_state())
    runs = [train(chooser, bimodal(), generations=5) for chooser in (used, fresh)]
    for a, b in zip(*runs, strict=True):
        assert (a.positions == b.positions).all()
        assert (a.predicted == b.predicted).all()
    assert used.state_dict() == fresh.state_dict()
    for name, array in used.array_state().items():
        assert np.array_equal(array, fresh.array_state()[name], equal_nan=array.dtype.kind == "f")


def test_estimates_of_another_dataset_are_refused():
    whole = selector(256)
    with pytest.raises(ValueError, match=r"estimates for 256 prompts, the training dataset has 64"):
        selector(64).load_state_dict(whole.state_dict(), whole.array_state())


def test_rewards_between_right_and_wrong_turn_the_estimate_to_the_event():
    chooser = selector(128)
    train(chooser, bimodal(128), generations=40)
    everyone = np.arange(128)
    before = chooser.estimates.predict(everyone)
    draw = chooser.draw(4, 4)
    size = len(draw.positions)
    chooser.observe(draw, np.zeros(size, dtype=int), np.ones(size, dtype=bool), False, np.ones(size))
    assert chooser.estimates.sees_events
    untouched = np.setdiff1d(everyone, draw.positions)
    # What was known of the pass rates is not lost: the promising prompts are still the promising ones
    assert np.corrcoef(before[untouched], chooser.estimates.predict(untouched))[0, 1] > 0.9
    assert "solved" not in chooser.pool_metrics()


def test_events_are_learned_from_the_verdicts_alone():
    """Graded rewards: prompts below 64 give groups that differ, the others groups of one value."""
    chooser = selector(128)
    draws = []
    for _ in range(60):
        chooser.start_generation()
        draws.append(chooser.draw(BATCH, BATCH))
        positions = draws[-1].positions
        size = len(positions)
        chooser.observe(draws[-1], np.zeros(size, dtype=int), positions < 64, False, np.ones(size))
    late = np.concatenate([draw.positions[~draw.explored] for draw in draws[30:]])
    assert (late < 64).mean() > 0.95
    seen = (chooser.estimates.evidence.seen_at != NEVER).nonzero()[0]
    assert ((chooser.estimates.predict(seen) > 0.5) == (seen < 64)).all()


def test_offline_rates_find_the_prompts_in_between_at_once():
    rates = bimodal(1024)
    with_rates = PromptSelector(1024, G, BATCH, 0, rates)
    with_rates.start_generation()
    draw = with_rates.draw(BATCH, BATCH)
    assert (rates[draw.positions[~draw.explored]] == 0.5).all()


def test_a_batch_out_of_a_million_prompts_takes_less_than_20_milliseconds():
    chooser = PromptSelector(1_000_000, 16, 512, 0)
    durations = []
    for _ in range(5):
        chooser.start_generation()
        start = time.process_time()
        draw = chooser.draw(512, 512)
        durations.append(time.process_time() - start)
        size = len(draw.positions)
        chooser.observe(draw, np.full(size, 8), np.ones(size, dtype=bool), True, np.full(size, 500.0))
    assert sorted(durations)[2] < 0.02


# ---- What a group costs ----


def test_the_cost_of_a_group_is_half_fixed_and_half_by_the_token():
    lengths = CompletionLengths(5, token_share=0.5)
    assert lengths.relative_cost(np.arange(5)).tolist() == [1.0] * 5
    lengths.learn(np.array([0, 1, 1]), np.array([10.0, 40.0, 20.0]))  # the newest group weighs half: 10 and 30
    mean = (10 + 30) / 2
    # Prompts never seen count as the mean of those that were
    expected = [0.5 + 0.5 * 10 / mean, 0.5 + 0.5 * 30 / mean, 1.0]
    assert lengths.relative_cost(np.array([0, 1, 2])) == pytest.approx(expected)
    assert CompletionLengths(5, token_share=0.0).relative_cost(np.arange(5)).tolist() == [1.0] * 5


def test_of_prompts_equally_informative_the_short_ones_come_first():
    rates = np.full(256, 0.5)
    for token_share, least, most in ((0.5, 0.9, 1.0), (0.0, 0.4, 0.6)):
        chooser = selector(token_share=token_share)
        rng = np.random.default_rng(0)
        draws = []
        for _ in range(80):
            chooser.start_generation()
            draws.append(chooser.draw(BATCH, BATCH))
            positions = draws[-1].positions
            right = rng.binomial(G, rates[positions])
            informative = (right > 0) & (right < G)
            chooser.observe(draws[-1], right, informative, True, np.where(positions < 128, 10.0, 100.0))
        late = np.concatenate([draw.positions[~draw.explored] for draw in draws[40:]])
        assert least <= (late < 128).mean() <= most


def test_a_long_prompt_in_between_comes_before_a_short_one_that_is_solved():
    rates = np.where(np.arange(256) < 192, 1.0, 0.5)
    chooser = selector(token_share=0.5)
    rng = np.random.default_rng(0)
    late = []
    for generation in range(80):
        chooser.start_generation()
        draw = chooser.draw(BATCH, BATCH)
        right = rng.binomial(G, rates[draw.positions])
        lengths = np.where(draw.positions < 192, 10.0, 40.0)
        chooser.observe(draw, right, (right > 0) & (right < G), True, lengths)
        late += draw.positions[~draw.explored].tolist() if generation >= 40 else []
    assert (np.array(late) >= 192).mean() > 0.85
