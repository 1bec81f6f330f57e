import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dapo_ext.sampling.group_filter import Verdict, deciding_rewards, judge_groups


NAN = math.nan


@pytest.mark.parametrize(
    ("rewards", "verdict"),
    [
        ([0, 0, 0, 1], Verdict.INFORMATIVE),
        ([1, 1, 1, 1], Verdict.EQUAL),
        ([0.1] * 8, Verdict.EQUAL),  # float32 std of these is about 1e-8, not 0
        ([0.0, 1e-6], Verdict.EQUAL),  # the tolerance itself still counts as equal
        ([0.0, 2e-6], Verdict.INFORMATIVE),
        ([NAN, NAN, 1, 1], Verdict.EQUAL),
        ([NAN, NAN, 0, 1], Verdict.INFORMATIVE),
        ([NAN, NAN, NAN, 1], Verdict.UNSCORED),
        ([NAN, NAN], Verdict.UNSCORED),
    ],
)
def test_verdicts(rewards, verdict):
    assert judge_groups(torch.tensor(rewards, dtype=torch.float64), len(rewards), 1e-6).tolist() == [verdict]


def reference_verdict(group: list[float], tolerance: float) -> Verdict:
    scored = [reward for reward in group if not math.isnan(reward)]
    if len(scored) < 2:
        return Verdict.UNSCORED
    return Verdict.INFORMATIVE if max(scored) - min(scored) > tolerance else Verdict.EQUAL


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 1.0, NAN]), min_size=3, max_size=3),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
)
def test_verdicts_equal_the_definition(groups, tolerance):
    rewards = torch.tensor(groups, dtype=torch.float64).flatten()
    assert judge_groups(rewards, 3, tolerance).tolist() == [reference_verdict(group, tolerance) for group in groups]


def test_deciding_rewards_are_the_weighted_sum_of_the_deciding_functions_alone():
    rewards = torch.tensor([[1.0, 2.0, -9.0], [NAN, 2.0, -9.0], [NAN, NAN, -9.0]])
    weights = torch.tensor([1.0, 0.5, 1.0])
    total = deciding_rewards(rewards, weights, [0, 1])
    torch.testing.assert_close(total, torch.tensor([2.0, 1.0, NAN], dtype=torch.float64), equal_nan=True)
