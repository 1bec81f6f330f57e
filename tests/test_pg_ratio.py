"""The preference ratio in the loss of the real trainer, against loops in float64 and against what it specialises to."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pg_grpo.ratio import (
    EXPONENT_BOUND,
    plain_log_ratio_bounds,
    sequence_exponents,
    sequence_log_ratio,
    token_log_ratio,
)
from pg_grpo.ratio_metrics import measure_ratio
from tests.loss_reference import MAX_LENGTH, Case, Objective, assert_matches, first_step, random_case
from tests.pg_tiny import LAYOUT, pg_trainer
from tests.tiny import dapo_trainer, trl_trainer


SEEDS = range(12)

# (fields of the configuration, the same objective for the reference, deviation of d_it in nats)
OBJECTIVES = [
    ({}, Objective(kl=0.001), 1.0),
    ({"beta": 0.0, "pg_beta": 0.5, "epsilon_high": 0.28}, Objective(pg_beta=0.5, epsilon_high=0.28), 0.3),
    ({"beta": 0.1, "pg_beta": 0.7, "pg_length_exponent": 0.5}, Objective(pg_beta=0.7, alpha=0.5, kl=0.1), 0.3),
    (
        {"beta": 0.0, "pg_beta": 1.0, "pg_length_exponent": 1.0, "delta": 1.3},
        Objective(pg_beta=1.0, alpha=1.0, delta=1.3),
        0.3,
    ),
    ({"loss_type": "dapo", "beta": 0.05}, Objective("dapo", kl=0.05), 1.0),
    ({"loss_type": "dr_grpo", "beta": 0.05, "pg_length_exponent": 1.0}, Objective("dr_grpo", alpha=1.0, kl=0.05), 1.0),
    ({"ratio_level": "token", "beta": 0.01, "pg_beta": 0.4}, Objective(level="token", pg_beta=0.4, kl=0.01), 0.5),
    (
        {"ratio_level": "token", "loss_type": "dapo", "epsilon": 0.1},
        Objective("dapo", "token", epsilon_low=0.1, epsilon_high=0.1, kl=0.001),
        2.0,
    ),
    # Beyond the bound of the exponent on both sides
    ({"beta": 0.0, "pg_beta": 3.0}, Objective(pg_beta=3.0), 4.0),
    ({"beta": 0.0, "pg_beta": 9.0, "ratio_level": "token"}, Objective(level="token", pg_beta=9.0), 3.0),
]


@pytest.mark.parametrize(("fields", "objective", "spread"), OBJECTIVES, ids=lambda value: str(value)[:70])
def test_value_and_gradient_equal_the_loops(tmp_path, monkeypatch, fields, objective, spread):
    trainer = pg_trainer(tmp_path, **fields)
    for seed in SEEDS:
        assert_matches(trainer, random_case(seed, rows=16, spread=spread), objective, monkeypatch)


@pytest.mark.parametrize(("fields", "objective", "spread"), OBJECTIVES[:2] + OBJECTIVES[6:7], ids=str)
def test_without_old_log_probabilities_the_ratio_is_one_and_keeps_its_gradient(
    tmp_path, monkeypatch, fields, objective, spread
):
    """In aligned layouts the host leaves them out; the gradient still carries the factor b."""
    trainer = pg_trainer(tmp_path, **fields)
    for seed in SEEDS:
        assert_matches(trainer, random_case(seed, rows=16, on_policy=True), objective, monkeypatch)


def test_the_cases_above_reach_every_region(tmp_path, monkeypatch):
    """A reference test in which nothing is clipped or bounded would prove little."""
    for (fields, _, spread), expected in ((OBJECTIVES[0], 0.05), (OBJECTIVES[3], 0.05), (OBJECTIVES[6], 0.05)):
        trainer = pg_trainer(tmp_path, **fields)
        for seed in SEEDS:
            first_step(trainer, random_case(seed, rows=16, spread=spread), monkeypatch)
        metrics = trainer._metrics["train"]
        for name in ("clipped_low", "clipped_high"):
            share = sum(metrics[f"pg_grpo/{name}"]) / len(metrics[f"pg_grpo/{name}"])
            assert expected < share < 0.5, (fields, name)
    trainer = pg_trainer(tmp_path, **OBJECTIVES[8][0])
    first_step(trainer, random_case(0, rows=16, spread=4.0), monkeypatch)
    assert max(trainer._metrics["train"]["pg_grpo/ratio_max"]) == pytest.approx(math.exp(EXPONENT_BOUND))


MUTATIONS = {
    "sign": lambda original: lambda *args: -original(*args),
    "no bound": lambda original: lambda cur, old, mask, beta, alpha: beta * ((cur - old) * mask).sum(1, keepdim=True),
    "exponent": lambda original: lambda cur, old, mask, beta, alpha: original(cur, old, mask, beta, 1.0),
    "detached": lambda original: lambda *args: original(*args).detach(),
    "padding in the sum": lambda original: (
        lambda cur, old, mask, *rest: original(cur, old, torch.ones_like(mask), *rest)
    ),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_reference_catches_a_mutated_ratio(tmp_path, monkeypatch, mutation):
    trainer = pg_trainer(tmp_path, beta=0.0, pg_beta=3.0)
    objective, case = Objective(pg_beta=3.0), random_case(0, rows=16, spread=4.0)
    assert_matches(trainer, case, objective, monkeypatch)
    monkeypatch.setattr("pg_grpo.trainer.sequence_log_ratio", MUTATIONS[mutation](sequence_log_ratio))
    with pytest.raises(AssertionError):
        assert_matches(trainer, case, objective, monkeypatch)


@pytest.mark.parametrize("attribute", ["epsilon_low", "epsilon_high", "beta"])
def test_the_reference_catches_a_mutated_bound_or_kl_term(tmp_path, monkeypatch, attribute):
    trainer = pg_trainer(tmp_path)
    case = random_case(0, rows=16)
    assert_matches(trainer, case, Objective(kl=0.001), monkeypatch)
    monkeypatch.setattr(trainer, attribute, getattr(trainer, attribute) * 1.5)
    with pytest.raises(AssertionError):
        assert_matches(trainer, case, Objective(kl=0.001), monkeypatch)


# ---- What it specialises to ----


def assert_same_step(ours, theirs, case: Case, monkeypatch, factor: float = 1.0):
    """Equal gradients up to a factor, and equal losses when the factor is 1."""
    torch.manual_seed(1)  # the same shuffle, so the same first step
    loss, _ = first_step(ours, case, monkeypatch)
    gradient = case.scores.gradient.clone()
    torch.manual_seed(1)
    other_loss, _ = first_step(theirs, case, monkeypatch)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, factor * case.scores.gradient, rtol=1e-10, atol=1e-13)
    if factor == 1:
        torch.testing.assert_close(loss, other_loss, rtol=1e-12, atol=1e-13)


def test_alpha_1_and_pg_beta_1_is_trls_sequence_level(tmp_path, monkeypatch):
    ours = pg_trainer(tmp_path, beta=0.01, pg_beta=1.0, pg_length_exponent=1.0)
    theirs = trl_trainer(
        tmp_path, **LAYOUT, loss_type="grpo", importance_sampling_level="sequence", epsilon_high=None, beta=0.01,
        use_bias_correction_kl=False,
    )  # fmt: skip
    for seed in SEEDS:
        assert_same_step(ours, theirs, random_case(seed, 16, spread=0.4, dead_row=False), monkeypatch)


def test_pg_beta_1_at_token_level_with_dapos_loss_is_dapo(tmp_path, monkeypatch):
    ours = pg_trainer(
        tmp_path, beta=0.0, pg_beta=1.0, ratio_level="token", loss_type="dapo", epsilon_high=0.28, scale_rewards="group"
    )
    theirs = dapo_trainer(tmp_path, **LAYOUT, dynamic_sampling=False, soft_overlong_cache=0)
    for seed in SEEDS:
        assert_same_step(ours, theirs, random_case(seed, 16, spread=0.4), monkeypatch)


@pytest.mark.parametrize("pg_beta", [0.1, 1.0, 3.0])
def test_on_policy_with_alpha_0_the_gradient_is_dr_grpos_up_to_a_constant(tmp_path, monkeypatch, pg_beta):
    """1/N sum_i A_i b grad D_i against 1/(N max_length) sum_i A_i grad D_i."""
    ours = pg_trainer(tmp_path, beta=0.0, pg_beta=pg_beta)
    theirs = dapo_trainer(
        tmp_path, **LAYOUT, dynamic_sampling=False, soft_overlong_cache=0, loss_type="dr_grpo", scale_rewards="none"
    )
    for seed in SEEDS:
        case = random_case(seed, 16, on_policy=True)
        assert_same_step(ours, theirs, case, monkeypatch, factor=pg_beta * MAX_LENGTH)


# ---- Facts of the ratio ----


@pytest.mark.parametrize("pg_beta", [0.1, 0.5, 2.0])
@pytest.mark.parametrize(("epsilon", "epsilon_high"), [(0.2, 0.2), (0.2, 0.28)])
@pytest.mark.parametrize("side", [1, -1])
def test_the_clip_region_in_plain_ratio_space(tmp_path, monkeypatch, pg_beta, epsilon, epsilon_high, side):
    """The gradient ends where the plain ratio leaves [(1 - e_lo)^(1/b), (1 + e_hi)^(1/b)], and not before."""
    trainer = pg_trainer(tmp_path, beta=0.0, pg_beta=pg_beta, epsilon=epsilon, epsilon_high=epsilon_high)
    bound = (1 + epsilon_high if side > 0 else 1 - epsilon) ** (1 / pg_beta)
    for distance, gradient_ends in ((1e-6, True), (-1e-6, False)):
        case = random_case(0, rows=16, dead_row=False)
        case.batch["advantages"] = torch.full((16,), float(side), dtype=torch.float64)
        case.batch["tool_mask"] = torch.zeros(16, MAX_LENGTH, dtype=torch.long)
        case.batch["tool_mask"][:, 0] = 1
        plain_log_ratio = math.log(bound) + side * distance
        case.batch["old_per_token_logps"] = case.scores.logps.detach() - plain_log_ratio
        first_step(trainer, case, monkeypatch)
        assert case.scores.gradient.abs().max().item() == (0 if gradient_ends else pytest.approx(
            pg_beta * (1 + epsilon_high if side > 0 else 1 - epsilon) / 8, rel=1e-4
        ))  # fmt: skip
    low, high = plain_log_ratio_bounds(epsilon, epsilon_high, torch.tensor([pg_beta], dtype=torch.float64))
    assert math.exp((high if side > 0 else low).item()) == pytest.approx(bound, rel=1e-6)


def test_the_bounds_of_the_method_in_nats():
    low, high = plain_log_ratio_bounds(0.2, 0.2, torch.tensor([0.1, 1 / 8000]))
    assert [round(value, 2) for value in (low[0].item(), high[0].item())] == [-2.23, 1.82]
    assert high[1].isfinite()
    assert plain_log_ratio_bounds(1.0, 0.2, torch.ones(1))[0].item() == -math.inf


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("total", [500, -500])
@pytest.mark.parametrize(("pg_beta", "ratio_level"), [(0.03, "sequence"), (1.0, "sequence"), (500.0, "token")])
def test_8000_tokens_far_off_policy_are_finite(tmp_path, monkeypatch, dtype, total, pg_beta, ratio_level):
    """8,000 tokens whose log-probabilities differ by 1/16 each: |D| = 500."""
    trainer = pg_trainer(tmp_path, beta=0.0, pg_beta=pg_beta, ratio_level=ratio_level)
    case = random_case(0, rows=16, dead_row=False)
    wide = (16, 8000)
    case.scores.logps = torch.full(wide, -1.0, dtype=dtype).requires_grad_()
    case.batch["old_per_token_logps"] = (case.scores.logps - total / 8000).detach()
    case.batch["completion_ids"] = torch.arange(16).unsqueeze(1).expand(wide)
    case.batch["completion_mask"] = case.batch["tool_mask"] = torch.ones(wide, dtype=torch.long)
    case.batch["advantages"] = torch.tensor([1.0, -1.0] * 8)
    case.scores.entropies = torch.ones(wide)
    loss, micro_batches = first_step(trainer, case, monkeypatch)
    gradient = case.scores.gradient
    assert loss.isfinite()
    assert gradient.isfinite().all()

    exponent = pg_beta * (total if ratio_level == "sequence" else total / 8000)
    ratio = math.exp(max(-EXPONENT_BOUND, min(exponent, EXPONENT_BOUND)))
    # min(p, 1.2) for A = 1 and -max(p, 0.8) for A = -1
    advantages = torch.cat([batch["advantages"] for batch in micro_batches]).tolist()
    expected = -sum(min(ratio, 1.2) if a > 0 else -max(ratio, 0.8) for a in advantages) / len(advantages)
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    if abs(exponent) > EXPONENT_BOUND:
        assert gradient.abs().max() == 0
    else:
        assert gradient.abs().max() > 0


@settings(max_examples=50, deadline=None)
@given(
    pg_beta=st.floats(0.01, 5), alpha=st.floats(0, 1), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    padding=st.integers(0, 4), seed=st.integers(0, 99),
)  # fmt: skip
def test_padding_and_what_stands_in_it_change_nothing(pg_beta, alpha, lengths, padding, seed):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(lengths), max(lengths) + padding)
    cur, old = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    mask = (torch.arange(shape[1]) < torch.tensor(lengths).unsqueeze(1)).long()
    log_ratio = sequence_log_ratio(cur, old.masked_fill(mask == 0, torch.nan), mask, pg_beta, alpha)
    token = token_log_ratio(cur, old.masked_fill(mask == 0, torch.inf), mask, pg_beta)
    for row, length in enumerate(lengths):
        d = (cur - old)[row, :length]
        b = pg_beta * length**-alpha
        assert log_ratio[row].item() == pytest.approx(max(-20, min(b * d.sum().item(), 20)), rel=1e-9, abs=1e-12)
        torch.testing.assert_close(token[row, :length], (pg_beta * d).clamp(-20, 20))
        assert (token[row, length:] == 0).all()


def test_the_exponents_run_from_the_sequence_ratio_to_gspo():
    lengths = torch.tensor([1, 10, 1000])
    assert sequence_exponents(lengths, 0.1, 0.0).tolist() == pytest.approx([0.1, 0.1, 0.1])
    assert sequence_exponents(lengths, 1.0, 1.0).tolist() == pytest.approx([1, 0.1, 0.001])
    assert sequence_exponents(lengths, 0.1, 0.5).tolist() == pytest.approx([0.1, 0.1 / 10**0.5, 0.1 / 1000**0.5])


def test_metrics_count_what_is_live_over_all_ranks():
    """Rows 0 to 3: inside; clipped high; above, but A < 0; dead."""
    log_ratio = torch.tensor([[0.0], [0.5], [0.5], [3.0]])
    advantages = torch.tensor([[1.0], [1.0], [-1.0], [1.0]])
    mask = torch.tensor([[1, 0], [1, 1], [1, 1], [0, 0]])
    exponents = torch.tensor([[0.1], [0.2], [0.2], [0.5]])
    rest = (0.2, 0.2, 0.01)
    sent: list[torch.Tensor] = []

    def measure(rows, sum_over_ranks, gather):
        parts = (log_ratio[rows], exponents[rows], exponents[rows] * 2, advantages[rows], mask[rows])
        return measure_ratio(*parts, *rest, sum_over_ranks, gather)

    whole = measure(slice(0, 4), lambda totals: totals, lambda extremes: extremes)
    assert whole["ratio_mean"] == pytest.approx((1 + 2 * math.exp(0.5)) / 3)
    assert (whole["ratio_min"], whole["ratio_max"]) == pytest.approx((1, math.exp(0.5)))
    assert (whole["clipped_low"], whole["clipped_high"]) == pytest.approx((0, 1 / 3))
    assert whole["exponent_mean"] == pytest.approx(0.5 / 3)
    assert whole["kl_weight"] == pytest.approx((0.05 + 0.025 + 0.025) / 3)
    assert whole["plain_log_ratio_high"] == pytest.approx(math.log(1.2) * (10 + 5 + 5) / 3)

    # The second rank holds rows 2 and 3, and the first one adds what it sent
    measure(slice(2, 4), lambda t: sent.append(t) or t, lambda t: sent.append(t) or t)
    two = measure(slice(0, 2), lambda t: t + sent[0], lambda t: torch.cat([t, sent[1]]))
    assert two == pytest.approx(whole)

    nothing = measure(slice(3, 4), lambda t: t, lambda t: t)
    assert all(math.isnan(value) for value in nothing.values())
