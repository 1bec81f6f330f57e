"""The losses written as plain loops in float64, and a way to put float64 log-probabilities through a real trainer."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from trl import GRPOTrainer


MAX_LENGTH = 8  # max_completion_length of the tiny trainers


@dataclass
class Scores:
    """What the model would have given for the rows of a generation batch; a row's index is its first token."""

    logps: torch.Tensor  # (N, T), the leaf that gradients are taken of
    entropies: torch.Tensor  # (N, T)

    @property
    def gradient(self) -> torch.Tensor:
        return torch.zeros_like(self.logps) if self.logps.grad is None else self.logps.grad


@dataclass
class Case:
    """A generation batch of `N` rows as the host would hand it over, with the scores of its rows."""

    batch: dict[str, Any]
    scores: Scores


def random_case(seed: int, rows: int = 8, spread: float = 1.0, on_policy: bool = False, dead_row: bool = True) -> Case:
    """Random lengths, tool masks, advantages and log-probabilities; `spread` is the deviation of `d_it` in nats."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    lengths = torch.randint(1, MAX_LENGTH + 1, (rows,), generator=generator)
    positions = torch.arange(MAX_LENGTH)
    completion_mask = (positions < lengths.unsqueeze(1)).long()
    tool_mask = (torch.rand(rows, MAX_LENGTH, generator=generator) < 0.8).long()
    tool_mask[:, 0] = 1  # every row keeps a token
    if dead_row:
        tool_mask[seed % rows] = 0  # but this one, which has left the loss
    logps = -normal(rows, MAX_LENGTH).abs() - 0.1
    ids = torch.full((rows, MAX_LENGTH), 5)
    ids[:, 0] = torch.arange(rows)
    batch = {
        "prompt_ids": torch.full((rows, 1), 5),
        "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
        "completion_ids": ids,
        "completion_mask": completion_mask,
        "tool_mask": tool_mask,
        "advantages": normal(rows),
        "num_items_in_batch": (completion_mask * tool_mask).sum(),
        "ref_per_token_logps": logps + 0.5 * normal(rows, MAX_LENGTH),
    }
    if not on_policy:
        # Not only noise: a drift of the whole row makes ratios of sequences leave the clip region
        batch["old_per_token_logps"] = logps - spread * (normal(rows, MAX_LENGTH) + normal(rows, 1))
    return Case(batch, Scores(logps.requires_grad_(), normal(rows, MAX_LENGTH).abs()))


def first_step(trainer: GRPOTrainer, case: Case, monkeypatch) -> tuple[torch.Tensor, list[dict[str, Any]]]:
    """
    Take a generation's first optimizer step through the trainer's own `_prepare_inputs` and `_compute_loss`.

    Only the two calls that need a language model are answered from the case: generation and the forward pass. The
    gradient is left in `case.scores.logps.grad`. Returns the loss and the step's micro-batches.
    """

    def generate(self, inputs):
        return dict(case.batch)

    def score(self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **kwargs):
        rows = input_ids[:, -logits_to_keep]
        return case.scores.logps[rows], case.scores.entropies[rows], None

    case.scores.logps.grad = None
    accumulation = trainer.args.gradient_accumulation_steps
    with monkeypatch.context() as patch:
        patch.setattr(GRPOTrainer, "_generate_and_score_completions", generate)
        patch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", score)
        trainer.model.train()
        trainer.current_gradient_accumulation_steps = accumulation
        trainer._buffered_inputs = None
        trainer._prepare_inputs([])
        micro_batches = trainer._buffered_inputs[:accumulation]
        loss = sum(trainer._compute_loss(trainer.model, batch) for batch in micro_batches)
    loss.backward()
    return loss.detach(), micro_batches


@dataclass
class Objective:
    """The numbers of METHOD's sections 2 and 3 that the reference reads."""

    loss_type: str = "grpo"
    level: str = "sequence"
    pg_beta: float = 0.1
    alpha: float = 0.0
    epsilon_low: float = 0.2
    epsilon_high: float = 0.2
    delta: float | None = None
    kl: float = 0.0
    bound: float = 20.0
    weights: dict[tuple[int, int], float] = field(default_factory=dict)  # of (row, token); 1 where missing


def reference_step(case: Case, micro_batches: list[dict[str, Any]], objective: Objective) -> torch.Tensor:
    """The loss of one optimizer step, token by token."""
    batch = case.batch
    logps, old, ref = case.scores.logps, batch.get("old_per_token_logps"), batch["ref_per_token_logps"]
    old = logps.detach() if old is None else old
    rows = [row for micro_batch in micro_batches for row in micro_batch["completion_ids"][:, 0].tolist()]
    total_sum, row_means, tokens, live = logps.new_zeros(()), [], 0, 0
    for row in rows:
        counted = [t for t in range(MAX_LENGTH) if batch["completion_mask"][row, t] * batch["tool_mask"][row, t]]
        if not counted:
            continue
        live += 1
        tokens += len(counted)
        terms = []
        for t in counted:
            surrogate = _surrogate(logps, old, row, t, counted, batch["advantages"][row], objective)
            gap = ref[row, t] - logps[row, t]
            k3 = torch.exp(gap) - gap - 1
            terms.append(objective.weights.get((row, t), 1.0) * surrogate + objective.kl * k3)
        total_sum = total_sum + sum(terms)
        row_means.append(sum(terms) / len(terms))
    if objective.loss_type in ("grpo", "sapo"):
        return sum(row_means) / live
    if objective.loss_type == "dr_grpo":
        return total_sum / (live * MAX_LENGTH)
    return total_sum / tokens


def _surrogate(logps, old, row, t, counted, advantage, objective: Objective) -> torch.Tensor:
    if objective.level == "token":
        exponent = objective.pg_beta * (logps[row, t] - old[row, t])
    else:
        b = objective.pg_beta * len(counted) ** -objective.alpha
        exponent = b * sum(logps[row, s] - old[row, s] for s in counted)
    if abs(exponent.item()) > objective.bound:
        exponent = torch.tensor(math.copysign(objective.bound, exponent.item()), dtype=torch.float64)
    ratio = torch.exp(exponent)
    if objective.loss_type == "cispo":
        return -min(ratio.item(), objective.epsilon_high) * advantage * logps[row, t]
    if ratio < 1 - objective.epsilon_low:
        clipped = torch.tensor(1 - objective.epsilon_low, dtype=torch.float64)
    elif ratio > 1 + objective.epsilon_high:
        clipped = torch.tensor(1 + objective.epsilon_high, dtype=torch.float64)
    else:
        clipped = ratio
    if objective.delta is not None and ratio > objective.delta:
        ratio = torch.tensor(objective.delta, dtype=torch.float64)
    return -torch.minimum(ratio * advantage, clipped * advantage)


def assert_matches(trainer: GRPOTrainer, case: Case, objective: Objective, monkeypatch) -> None:
    """Value and gradient of the trainer's first optimizer step equal the reference's, to float64 accuracy."""
    loss, micro_batches = first_step(trainer, case, monkeypatch)
    gradient = case.scores.gradient.clone()
    case.scores.logps.grad = None
    expected = reference_step(case, micro_batches, objective)
    expected.backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(gradient, case.scores.gradient, rtol=1e-10, atol=1e-12)
