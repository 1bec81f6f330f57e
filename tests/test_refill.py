import pytest
from hypothesis import given
from hypothesis import strategies as st

from dapo_ext.sampling.refill import AcceptRate, refill_size, shared_multiple


def test_one_missing_group_costs_one_group_when_most_are_informative():
    assert refill_size(missing=1, accept_rate=0.98, batch_groups=64, budget_left=500, multiple=1) == 1
    assert refill_size(missing=1, accept_rate=0.7, batch_groups=64, budget_left=500, multiple=1) == 1


def test_the_refill_follows_the_accept_rate():
    assert refill_size(missing=20, accept_rate=0.5, batch_groups=64, budget_left=500, multiple=1) == 40
    assert refill_size(missing=20, accept_rate=0.25, batch_groups=100, budget_left=500, multiple=1) == 80


@pytest.mark.parametrize(("num_processes", "num_generations", "multiple"), [(1, 8, 1), (2, 8, 1), (2, 3, 2), (8, 6, 4)])
def test_ranks_can_share_a_multiple_evenly(num_processes, num_generations, multiple):
    assert shared_multiple(num_processes, num_generations) == multiple


@given(
    missing=st.integers(1, 64),
    accept_rate=st.floats(0.001, 1.0),
    budget_left=st.integers(0, 200),
    num_processes=st.integers(1, 8),
    num_generations=st.integers(2, 16),
)
def test_a_refill_is_shareable_within_budget_and_never_larger_than_a_batch(
    missing, accept_rate, budget_left, num_processes, num_generations
):
    multiple = shared_multiple(num_processes, num_generations)
    batch_groups = 64 * multiple  # a batch's rows divide among the ranks
    size = refill_size(missing, accept_rate, batch_groups, budget_left, multiple)
    assert size * num_generations % num_processes == 0
    assert size <= min(budget_left, batch_groups)
    assert size > 0 or budget_left < multiple


def test_accept_rate_forgets_old_batches_and_stays_above_zero():
    rate = AcceptRate()
    assert rate.value == 1.0
    rate.update(kept=0, generated=640)
    assert 0 < rate.value < 0.01
    for _ in range(20):
        rate.age()
        rate.update(kept=64, generated=64)
    assert rate.value > 0.95
