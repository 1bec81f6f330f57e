"""The offline PG loss against plain loops in float64, and the facts it must satisfy."""

import math
import types
from pathlib import Path

import pytest
import torch

from pg_grpo import pair_loss
from pg_grpo.pair_loss import PairObjective, PairState


SETTINGS = [
    {"pg_beta": 0.1},
    {"pg_beta": 0.1, "epsilon": 0.2, "epsilon_high": 0.28, "delta": 1.6, "pg_length_exponent": 0.5},
    {"pg_beta": 1.0, "pg_length_exponent": 1.0, "aggregation": "token", "epsilon": 0.1, "epsilon_high": 0.4},
    {"pg_beta": 0.7, "aggregation": "token", "delta": 3.0, "epsilon": 0.5, "epsilon_high": 0.3},
    {"pg_beta": 5.0, "epsilon": 1.5, "epsilon_high": 1e12},  # reaches the bound of the exponent
]


def random_pairs(seed: int, size: int = 12, tokens: int = 9):
    """Per-token log-ratios of both sides with random masks, log-ratios of up to some ten nats."""
    generator = torch.Generator().manual_seed(seed)
    d = torch.randn(2, size, tokens, generator=generator, dtype=torch.float64) * 1.5
    mask = torch.rand(2, size, tokens, generator=generator) < 0.7
    mask[..., 0] = True
    return d, mask


def of_module(module, settings, d, mask):
    """Loss and gradient with respect to every token's log-ratio, by a module's code and autograd."""
    d = d.clone().requires_grad_()
    terms = module.PairObjective(**settings).terms((d * mask).sum(-1), mask.sum(-1))
    loss = terms.mean()
    loss.backward()
    return loss.item(), d.grad


def by_loops(settings, d, mask):
    """The same by METHOD section 6, one completion at a time, the gradient written out by hand."""
    s = {"pg_length_exponent": 0.0, "epsilon": 0.2, "epsilon_high": 0.2, "delta": None, "aggregation": "sequence"}
    s |= settings
    low, high = 1 - s["epsilon"], 1 + s["epsilon_high"]
    total, divisor = 0.0, 0.0
    gradient = torch.zeros_like(d)
    for side, advantage in ((0, 1), (1, -1)):
        for i in range(d.size(1)):
            positions = [t for t in range(d.size(2)) if mask[side, i, t]]
            length = len(positions)
            b = s["pg_beta"] / length ** s["pg_length_exponent"]
            exponent = b * sum(d[side, i, t].item() for t in positions)
            inside = -20.0 <= exponent <= 20.0
            p = math.exp(min(max(exponent, -20.0), 20.0))
            if side == 1 and s["delta"] is not None and p > s["delta"]:
                p, inside = s["delta"], False
            clipped = min(max(p, low), high)
            surrogate = min(p * advantage, clipped * advantage)
            moves = inside and surrogate == p * advantage
            weight = length if s["aggregation"] == "token" else 1
            total -= weight * surrogate
            divisor += weight
            for t in positions:
                gradient[side, i, t] = -weight * advantage * b * p if moves else 0.0
    return total / divisor, gradient / divisor


def assert_equals_loops(module):
    for seed, settings in enumerate(SETTINGS):
        d, mask = random_pairs(seed)
        loss, gradient = of_module(module, settings, d, mask)
        expected_loss, expected_gradient = by_loops(settings, d, mask)
        assert loss == pytest.approx(expected_loss, rel=1e-12)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-12, atol=1e-14)


def test_value_and_gradient_equal_the_loops():
    assert_equals_loops(pair_loss)


def test_the_random_pairs_reach_every_branch():
    reached = set()
    for seed, settings in enumerate(SETTINGS):
        d, mask = random_pairs(seed)
        objective, log_ratios, lengths = PairObjective(**settings), (d * mask).sum(-1), mask.sum(-1)
        chosen, rejected = objective.terms(log_ratios, lengths).ratios
        reached |= {("high", bool(x > 1 + objective.epsilon_high)) for x in chosen}
        reached |= {("low", bool(x < 1 - objective.epsilon)) for x in rejected}
        reached |= {("delta", objective.delta is not None and bool(x > objective.delta)) for x in rejected}
        exponents = objective.exponents(lengths.double()) * log_ratios
        reached |= {("bound", bool(x)) for x in exponents.abs().flatten() > 20}
        reached |= {("state", state) for state in objective.judge(log_ratios, lengths).tolist()}
    expected = {(name, flag) for name in ("high", "low", "delta", "bound") for flag in (True, False)}
    assert reached == expected | {("state", int(state)) for state in PairState}


@pytest.mark.parametrize(
    ("original", "mutant"),
    [
        ("[-chosen.clamp", "[chosen.clamp"),
        ("capped.clamp(min=1 - self.epsilon)", "-capped.clamp(min=1 - self.epsilon)"),
        ("clamp(max=1 + self.epsilon_high)", "clamp(max=1 + self.epsilon)"),
        ("clamp(min=1 - self.epsilon)", "clamp(min=1 - self.epsilon_high)"),
        ("clamp(min=1 - self.epsilon)", "clamp(max=1 - self.epsilon)"),
        ("rejected.clamp(max=self.delta)", "rejected"),
        ("self.pg_beta, self.pg_length_exponent)", "self.pg_beta, -self.pg_length_exponent)"),
        ("total_weight = weights.sum()", "total_weight = weights[0].sum()"),
        ('return lengths if self.aggregation == "token"', 'return lengths if self.aggregation == "sequence"'),
        ("ratios = bound_exponent(", "ratios = ("),
    ],
)
def test_mutants_are_caught(original, mutant):
    """Tests of the test: a changed sign, bound, exponent or denominator does not equal the loops."""
    source = Path(pair_loss.__file__).read_text()
    assert original in source
    module = types.ModuleType("pg_grpo.pair_loss_mutant")
    module.__package__ = "pg_grpo"
    vars(module)["__name__"] = "pg_grpo.pair_loss"  # dataclasses look their module up
    exec(compile(source.replace(original, mutant), "mutant", "exec"), vars(module))
    with pytest.raises(AssertionError):
        assert_equals_loops(module)


def test_at_the_reference_the_gradient_is_dpos():
    beta, lengths = 0.3, torch.tensor([[3, 5, 1], [2, 9, 4]])
    ours = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    PairObjective(pg_beta=beta).terms(ours, lengths).mean().backward()
    dpo = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    (-torch.nn.functional.logsigmoid(beta * (dpo[0] - dpo[1]))).mean().backward()
    torch.testing.assert_close(ours.grad, dpo.grad, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.grad[0] * 3, torch.full((3,), -beta / 2, dtype=torch.float64), rtol=1e-12, atol=0)


def test_the_bounds_at_beta_a_tenth_in_nats():
    objective = PairObjective(pg_beta=0.1, epsilon=0.2, epsilon_high=0.2)
    high, low = math.log(1.2) / 0.1, math.log(0.8) / 0.1
    assert (round(high, 2), round(low, 2)) == (1.82, -2.23)
    # What the loss itself does on either side of them
    nudge = 1e-6
    log_ratios = torch.tensor([[high - nudge, high + nudge], [low + nudge, low - nudge]], dtype=torch.float64)
    log_ratios.requires_grad_()
    objective.terms(log_ratios, torch.full((2, 2), 7)).mean().backward()
    assert (log_ratios.grad != 0).tolist() == [[True, False], [True, False]]


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_pair_is_live_exactly_when_the_loss_has_a_gradient(settings):
    objective = PairObjective(**settings)
    d, mask = random_pairs(7, size=200)
    log_ratios, lengths = (2 * d * mask).sum(-1).requires_grad_(), mask.sum(-1)
    objective.terms(log_ratios, lengths).mean().backward()
    live = objective.judge(log_ratios.detach(), lengths) == PairState.LIVE
    assert torch.equal(live, (log_ratios.grad != 0).any(dim=0))
    assert live.any()


def test_delta_caps_the_pull_of_a_rejected_completion():
    log_ratios = torch.tensor([[50.0], [9.0]], requires_grad=True)
    lengths = torch.tensor([[4], [4]])
    PairObjective().terms(log_ratios, lengths).mean().backward()
    assert log_ratios.grad[1].item() == pytest.approx(0.05 * math.exp(0.9))
    capped = PairObjective(delta=2.0)
    log_ratios.grad = None
    capped.terms(log_ratios, lengths).mean().backward()
    assert log_ratios.grad.tolist() == [[0.0], [0.0]]
    assert capped.judge(log_ratios.detach(), lengths).tolist() == [PairState.STUCK]


def test_padding_with_dead_pairs_and_splitting_leave_the_mean_alone():
    d, mask = random_pairs(3)
    log_ratios, lengths = (d * mask).sum(-1), mask.sum(-1)
    for aggregation in ("sequence", "token"):
        objective = PairObjective(aggregation=aggregation)
        terms = objective.terms(log_ratios, lengths)
        whole, total = terms.mean(), terms.weights.sum()
        parts = [objective.terms(log_ratios[:, part], lengths[:, part]) for part in (slice(0, 5), slice(5, 12))]
        assert sum(part.mean(total_weight=total) for part in parts).item() == pytest.approx(whole.item(), rel=1e-12)
        live = torch.arange(12) < 7
        expected = objective.terms(log_ratios[:, :7], lengths[:, :7]).mean()
        assert terms.mean(live).item() == pytest.approx(expected.item(), rel=1e-12)


def test_an_empty_side_is_neutral():
    objective = PairObjective(pg_length_exponent=1.0)
    terms = objective.terms(torch.zeros(2, 1), torch.tensor([[0], [0]]))
    assert terms.ratios.tolist() == [[1.0], [1.0]]
    assert terms.mean().item() == 0.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_sums_of_hundreds_of_nats_stay_finite(dtype):
    log_ratios = torch.tensor([[-500.0, 500.0], [500.0, -500.0]], dtype=dtype, requires_grad=True)
    loss = PairObjective(pg_beta=1.0).terms(log_ratios, torch.full((2, 2), 8000)).mean()
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.isfinite()
    assert log_ratios.grad.isfinite().all()
