"""Comparisons within a group: which pairs are compared, and what their outcomes say of each completion."""

import random

import torch


# Newton's method doubles the digits with each step; a start that needs more than this many does not occur.
MAX_NEWTON_STEPS = 100
# Relative error of the log posterior in float64: a step that loses no more than this is a step uphill.
ROUNDING = 1e-13
# Largest component of the gradient, in expected wins, at which the maximum counts as found.
GRADIENT_TOLERANCE = 1e-10


def comparison_design(size: int, comparisons: int | None, rng: random.Random) -> list[tuple[int, int]]:
    """
    Choose the pairs of a group to compare, in random order of presentation.

    A budget is spent on neighbours in a random circular order, nearest first. From `size - 1` comparisons on every
    completion is therefore connected with every other, and no two completions take part in numbers of comparisons that
    differ by more than two.

    Args:
        size (`int`):
            Completions of the group, at least 2.
        comparisons (`int` or `None`):
            Number of pairs, at least `size - 1`; `None`, or more than there are, for all `size * (size - 1) / 2`.
        rng (`random.Random`):
            Source of the order.

    Returns:
        `list[tuple[int, int]]`: distinct pairs `(first, second)` of positions in the group.
    """
    order = rng.sample(range(size), size)
    pairs = []
    for distance in range(1, size // 2 + 1):
        # At half the way round every pair would come twice
        starts = size // 2 if 2 * distance == size else size
        pairs += [(order[start], order[(start + distance) % size]) for start in range(starts)]
    return [pair if rng.random() < 0.5 else pair[::-1] for pair in pairs[:comparisons]]


def win_rates(wins: torch.Tensor) -> torch.Tensor:
    """
    Share of its comparisons that each completion won, `sum_j w_ij / sum_j (w_ij + w_ji)`.

    Args:
        wins (`torch.Tensor` of shape `(G, G)`):
            `w_ij`, how much of the comparisons of `i` with `j` went to `i`; a tie is a half for either.

    Returns:
        `torch.Tensor` of shape `(G,)` in [0, 1], NaN for a completion without a comparison.
    """
    won, lost = wins.sum(dim=1), wins.sum(dim=0)
    return won / (won + lost)


def bradley_terry_strengths(wins: torch.Tensor, regularization: float) -> torch.Tensor:
    """
    Strengths that make the outcomes most likely, `P(i beats j) = sigmoid(s_i - s_j)` (Bradley and Terry, 1952), with a
    Gaussian prior.

    Maximises `sum_ij w_ij log sigmoid(s_i - s_j) - regularization / 2 * sum_i s_i^2` by Newton's method with step
    halving, in float64. The prior makes the maximum finite and unique whatever the outcomes, with `sum_i s_i = 0`.

    Args:
        wins (`torch.Tensor` of shape `(G, G)`):
            `w_ij >= 0`, how much of the comparisons of `i` with `j` went to `i`; a tie is a half for either.
        regularization (`float`):
            Precision of the prior, above 0.

    Returns:
        `torch.Tensor` of shape `(G,)`, float64, in logits; NaN for a completion without a comparison.

    Raises:
        ArithmeticError: when the maximum was not found, as with outcomes that are not finite.
    """
    wins = wins.double()
    games = wins + wins.T
    strengths = wins.new_zeros(len(wins))

    def log_posterior(s: torch.Tensor) -> torch.Tensor:
        differences = s.unsqueeze(1) - s
        return (wins * torch.nn.functional.logsigmoid(differences)).sum() - regularization / 2 * s.square().sum()

    for _ in range(MAX_NEWTON_STEPS):
        expected = torch.sigmoid(strengths.unsqueeze(1) - strengths)
        gradient = (wins - games * expected).sum(dim=1) - regularization * strengths
        if gradient.abs().max() <= GRADIENT_TOLERANCE * max(1.0, games.max().item()):
            return strengths.masked_fill(games.sum(dim=1) == 0, torch.nan)
        variance = games * expected * (1 - expected)
        negative_hessian = torch.diag(variance.sum(dim=1) + regularization) - variance
        step = torch.linalg.solve(negative_hessian, gradient)
        floor = log_posterior(strengths)
        floor -= ROUNDING * max(1.0, floor.abs().item())
        while log_posterior(strengths + step) < floor:
            step = step / 2
        strengths = strengths + step
    raise ArithmeticError(f"No Bradley-Terry strengths were found in {MAX_NEWTON_STEPS} steps for the wins {wins}.")
