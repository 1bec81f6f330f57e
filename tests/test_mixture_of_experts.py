"""The load-balancing loss of a mixture of experts stands beside the policy's loss, however many rows that has left."""

import copy
import functools

import pytest
import torch
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

from tests.pg_tiny import pg_trainer
from tests.tiny import SMALL, dapo_trainer, logged


@functools.cache
def mixture() -> Qwen3MoeForCausalLM:
    torch.manual_seed(0)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(vocab_size=20, **experts, **SMALL))


def run(build, output_dir, informative: int, coefficient: float, **changes):
    """Two steps that move nothing, of batches that keep the first `informative` of their 4 groups."""

    def reward(completion_ids, **kwargs):
        return [float(i % 2) if i < 4 * informative else 0.0 for i in range(len(completion_ids))]

    trainer = build(
        output_dir,
        reward,
        trainer_args={"model": copy.deepcopy(mixture())},
        router_aux_loss_coef=coefficient,
        dynamic_sampling=True,
        generation_budget=1.0,
        soft_overlong_cache=0,
        learning_rate=0.0,
        max_grad_norm=0.0,
        max_steps=2,
        beta=0.0,
        **changes,
    )
    gradients = []
    step = trainer.create_optimizer().step

    def recording_step(*args, **kwargs):
        gradients.append(trainer.model.model.layers[0].mlp.gate.weight.grad.clone())
        return step(*args, **kwargs)

    trainer.optimizer.step = recording_step
    trainer.train()
    assert trainer.router_aux_loss_coef == coefficient
    return trainer, gradients


@pytest.mark.parametrize("informative", [4, 3, 1])
@pytest.mark.parametrize(
    ("build", "loss_type"), [(dapo_trainer, "grpo"), (dapo_trainer, "dr_grpo"), (pg_trainer, "grpo")]
)
def test_the_load_balancing_loss_is_added_once_whatever_rows_are_left(tmp_path, build, loss_type, informative):
    without, plain = run(build, tmp_path, informative, 0.0, loss_type=loss_type, gradient_accumulation_steps=2)
    with_one, once = run(build, tmp_path, informative, 1.0, loss_type=loss_type, gradient_accumulation_steps=2)
    with_two, twice = run(build, tmp_path, informative, 2.0, loss_type=loss_type, gradient_accumulation_steps=2)
    balancing = torch.tensor(logged(with_one, "aux_loss"))
    assert (balancing > 0.5).all()
    policy = torch.tensor(logged(without, "loss"))
    torch.testing.assert_close(torch.tensor(logged(with_one, "loss")), policy + balancing, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(logged(with_two, "loss")), policy + 2 * balancing, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(twice[0] - once[0], once[0] - plain[0], rtol=1e-3, atol=1e-6)


def test_the_gradient_of_the_load_balancing_loss_is_the_same_with_fewer_rows(tmp_path):
    """The token mean is never rescaled: what it adds to the gradient is what the row mean must add too."""
    added = {}
    for loss_type in ("dapo", "grpo"):
        _, plain = run(dapo_trainer, tmp_path, 1, 0.0, loss_type=loss_type, gradient_accumulation_steps=2)
        _, balanced = run(dapo_trainer, tmp_path, 1, 1.0, loss_type=loss_type, gradient_accumulation_steps=2)
        added[loss_type] = balanced[0] - plain[0]
    assert added["dapo"].abs().max() > 1e-4
    torch.testing.assert_close(added["grpo"], added["dapo"], rtol=1e-3, atol=1e-6)
