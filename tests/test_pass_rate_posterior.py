"""Pass-rate estimates against brute force: sums over a fine grid of pass rates, plain loops, samples."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapo_ext.prompt_selection.beta import fit_beta, group_counts, informative_at, informative_probability
from dapo_ext.prompt_selection.drift import Drift
from dapo_ext.prompt_selection.evidence import NEVER, Evidence
from dapo_ext.prompt_selection.pool_prior import PoolPrior, stratify
from dapo_ext.prompt_selection.selector import Draw, PromptSelector


positive = st.floats(0.05, 50.0)


def moment_by_loop(alpha: float, beta: float, power: int) -> float:
    """E[p^n] from gamma functions: B(a + n, b) / B(a, b)."""
    log_beta = [math.lgamma(x) + math.lgamma(beta) - math.lgamma(x + beta) for x in (alpha + power, alpha)]
    return math.exp(log_beta[0] - log_beta[1])


def log_likelihood(counts: np.ndarray, alpha: np.ndarray, beta: np.ndarray) -> float:
    return float((counts * np.log(group_counts(alpha, beta, counts.shape[1] - 1))).sum())


@given(alpha=positive, beta=positive, num_generations=st.integers(2, 32))
def test_the_chance_of_an_informative_group_is_the_beta_moments(alpha, beta, num_generations):
    expected = 1 - moment_by_loop(alpha, beta, num_generations) - moment_by_loop(beta, alpha, num_generations)
    chance = informative_probability(np.array([alpha]), np.array([beta]), num_generations)
    assert chance == pytest.approx([expected], abs=1e-10)


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.2), (1.0, 1.0), (8.3, 0.2), (2.0, 5.0)])
def test_the_closed_form_is_what_groups_of_drawn_pass_rates_do(alpha, beta):
    rng = np.random.default_rng(0)
    pass_rates = rng.beta(alpha, beta, 400_000)
    right = rng.binomial(8, pass_rates)
    chance = informative_probability(np.array([alpha]), np.array([beta]), 8)[0]
    # Four standard errors of a share of 400,000
    assert ((right > 0) & (right < 8)).mean() == pytest.approx(chance, abs=4 * 0.5 / 400_000**0.5)
    assert informative_at(pass_rates, 8).mean() == pytest.approx(chance, abs=4 * 0.5 / 400_000**0.5)


@given(alpha=positive, beta=positive, trials=st.integers(1, 16))
def test_group_counts_are_the_beta_binomial(alpha, beta, trials):
    def log_beta(a, b):
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    expected = [
        math.comb(trials, c) * math.exp(log_beta(alpha + c, beta + trials - c) - log_beta(alpha, beta))
        for c in range(trials + 1)
    ]
    assert group_counts(np.array([alpha]), np.array([beta]), trials)[0] == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_the_prior_of_a_pool_is_found_from_its_groups():
    rng = np.random.default_rng(0)
    pools = [(0.3, 0.2), (2.0, 5.0)]
    counts = np.array([np.bincount(rng.binomial(8, rng.beta(*pool, 200_000)), minlength=9) for pool in pools])
    alpha, beta = fit_beta(counts.astype(float), np.ones(2), np.ones(2), iterations=1000)
    assert np.stack([alpha, beta], axis=1) == pytest.approx(np.array(pools), rel=0.03)


@given(counts=st.lists(st.floats(0.01, 100.0), min_size=2, max_size=17), alpha=positive, beta=positive)
def test_every_step_of_the_fit_raises_the_likelihood(counts, alpha, beta):
    counts, start = np.array([counts]), (np.array([alpha]), np.array([beta]))
    once = fit_beta(counts, *start, iterations=1)
    clipped = any((value <= 0.05).any() or (value >= 50).any() for value in once)
    assert clipped or log_likelihood(counts, *once) >= log_likelihood(counts, *start) - 1e-9 * counts.sum()


def test_with_one_trial_per_group_the_fit_finds_the_mean_and_keeps_the_strength():
    alpha, beta = fit_beta(np.array([[30.0, 10.0]]), np.array([0.5]), np.array([0.5]))
    assert (alpha[0], beta[0]) == pytest.approx((0.25, 0.75))


def posterior_by_grid(groups: list[tuple[int, int]], now: int, prior, age_discount: float, visit_discount: float):
    """Mean and chance of an informative group of eight: every group's likelihood to the power of its weight."""
    grid = (np.arange(200_000) + 0.5) / 200_000
    log_density = (prior[0] - 1) * np.log(grid) + (prior[1] - 1) * np.log(1 - grid)
    for index, (generation, right) in enumerate(groups):
        weight = age_discount ** (now - generation) * visit_discount ** (len(groups) - 1 - index)
        log_density += weight * (right * np.log(grid) + (8 - right) * np.log(1 - grid))
    density = np.exp(log_density - log_density.max())
    density /= density.sum()
    return (density * grid).sum(), (density * (1 - grid**8 - (1 - grid) ** 8)).sum()


def test_the_posterior_is_the_discounted_likelihood_times_the_prior(monkeypatch):
    monkeypatch.setattr(Drift, "learn", lambda *args: None)  # a policy that stands still
    selector = PromptSelector(size=3, num_generations=8, batch_groups=2, seed=0)
    selector.estimates.prior.alpha, selector.estimates.prior.beta = np.array([1.5]), np.array([2.5])
    groups = [(1, 3), (4, 7), (9, 5)]
    for generation, right in groups:
        selector.estimates.generation = generation
        draw = Draw(np.array([1]), predicted=np.array([0.5]), explored=np.array([False]))
        selector.observe(draw, np.array([right]), np.array([True]), True, np.ones(1))
    selector.estimates.generation = 12
    settings = selector.settings
    mean, chance = posterior_by_grid(groups, 12, (1.5, 2.5), settings.age_discount, settings.visit_discount)
    alpha, beta = selector.estimates.posterior(np.array([1]))
    assert (alpha / (alpha + beta))[0] == pytest.approx(mean, rel=1e-5)
    assert selector.estimates.predict(np.array([1]))[0] == pytest.approx(chance, rel=1e-5)
    # The neighbours were never seen: their posterior is the prior
    assert selector.estimates.posterior(np.array([0, 2])) == (pytest.approx([1.5] * 2), pytest.approx([2.5] * 2))


def test_what_nobody_looks_at_is_forgotten():
    evidence = Evidence(2, age_discount=0.5, visit_discount=1.0)
    evidence.add(np.array([0]), np.array([8]), np.array([0]), now=3)
    assert evidence.read(np.array([0, 1]), now=3)[0].tolist() == [8, 0]
    assert evidence.read(np.array([0, 1]), now=6)[0].tolist() == [1, 0]
    assert evidence.ages(np.array([0, 1]), now=6).tolist() == [3, 0]


def test_a_prompt_drawn_twice_in_a_round_counts_twice():
    evidence = Evidence(2, age_discount=1.0, visit_discount=0.5)
    evidence.add(np.array([1]), np.array([4]), np.array([4]), now=1)
    evidence.replace(np.array([1]), *evidence.read(np.array([1]), now=2))
    evidence.add(np.array([1, 1]), np.array([8, 6]), np.array([0, 2]), now=2)
    assert evidence.read(np.array([1]), now=2) == (2 + 14, 2 + 2)
    assert evidence.seen == 1
    assert evidence.seen_at.tolist() == [NEVER, 2]


@given(alpha=positive, beta=positive, reach=st.floats(0, 20), rate=st.floats(-0.15, 0.15))
def test_a_moved_posterior_keeps_its_strength_and_shifts_its_log_odds(alpha, beta, reach, rate):
    drift = Drift()
    drift.rate = rate
    moved_alpha, moved_beta = drift.move(np.array([alpha]), np.array([beta]), np.array([reach]))
    assert moved_alpha[0] + moved_beta[0] == pytest.approx(alpha + beta)
    assert math.log(moved_alpha[0] / moved_beta[0]) == pytest.approx(math.log(alpha / beta) + rate * reach, abs=1e-9)


@pytest.mark.parametrize("rate", [-0.1, 0.0, 0.1])
def test_a_common_trend_is_found(rate):
    """Groups of prompts seen 1 to 10 generations ago, whose log-odds have moved by `rate` a generation since then."""
    rng = np.random.default_rng(0)
    drift = Drift()
    for _ in range(40):
        drift.age()
        reach = rng.integers(1, 11, 64).astype(float)
        alpha, beta = rng.uniform(1, 20, 64), rng.uniform(1, 20, 64)
        then = rng.beta(alpha, beta)
        now = 1 / (1 + np.exp(-np.log(then / (1 - then)) - rate * reach))
        drift.learn(*drift.move(alpha, beta, reach), reach, rng.binomial(8, now), 8)
    assert drift.rate == pytest.approx(rate, abs=0.02)


def test_state_is_two_floats_and_a_counter_per_prompt():
    arrays = Evidence(1000, 0.9, 0.9).array_state()
    assert sorted(array.dtype.name for array in arrays.values()) == ["float32", "float32", "int32"]
    assert sum(array.nbytes for array in arrays.values()) == 12_000


def test_offline_rates_fall_into_strata():
    rates = np.array([0.0, 0.01, 0.124, 0.125, 0.5, 0.99, 1.0, np.nan])
    assert stratify(rates).tolist() == [0, 1, 1, 2, 5, 8, 9, 10]


def test_offline_rates_are_the_starting_prior_and_the_pools_own_groups_correct_them():
    rates = np.array([0.0] * 50 + [0.5] * 50 + [1.0] * 50 + [np.nan] * 50)
    prior = PoolPrior(200, 8, rates)
    alpha, beta = prior.read(np.array([0, 50, 100, 150]))
    assert alpha / (alpha + beta) == pytest.approx([0.5 / 9, 0.5, 8.5 / 9, 0.5])
    # The policy has moved on: prompts that were hopeless offline are now right half the time
    for _ in range(20):
        prior.age()
        prior.observe(np.arange(50), np.full(50, 4))
    prior.age()
    alpha, beta = prior.read(np.array([0, 100]))
    assert alpha[0] / (alpha[0] + beta[0]) == pytest.approx(0.5, abs=0.02)
    assert alpha[1] / (alpha[1] + beta[1]) > 0.9  # a stratum without groups keeps its start
