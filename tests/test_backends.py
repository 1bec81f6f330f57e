"""Generation backends through the subclasses: continuous batching for real, vLLM's engine as a stub."""

import pytest
import torch

from tests import vllm_stub
from tests.pg_tiny import pg_trainer
from tests.tiny import dapo_trainer, logged, odd_length, prompts, rare_first_token


TRAINERS = {"dapo": dapo_trainer, "pggrpo": pg_trainer}
# What the CPU needs: there is no free GPU memory to infer the sizes from
CONTINUOUS = {
    "use_transformers_continuous_batching": True,
    "transformers_continuous_batching_config": {"num_blocks": 64, "page_size": 32, "max_batch_tokens": 128},
}
VLLM = {
    "use_vllm": True,
    "vllm_importance_sampling_mode": "token_truncate",
    "vllm_importance_sampling_clip_max": 100.0,
}


class HalfThenAll:
    """
    Every other round only the first half of the groups is informative, else all: a refill finds more than it needs.

    Continuous batching draws its own seed, so nothing here depends on what was written.
    """

    __name__ = "half_then_all"

    def __init__(self):
        self.rounds = 0

    def __call__(self, completion_ids, **kwargs) -> list[float]:
        self.rounds += 1
        live = len(completion_ids) // (1 + self.rounds % 2)
        return [float(row % 2) if row < live else 0.0 for row in range(len(completion_ids))]


@pytest.mark.parametrize("name", TRAINERS)
def test_continuous_batching_trains_with_dynamic_sampling_and_surplus(tmp_path, name):
    trainer = TRAINERS[name](tmp_path, HalfThenAll(), dynamic_sampling=True, max_steps=4, **CONTINUOUS)
    trainer.train()
    assert trainer.sampler.ledger.informative_fraction == 1.0
    assert logged(trainer, "dynamic_sampling/rounds")[0] == 2
    assert logged(trainer, "dynamic_sampling/surplus")[0] > 0
    assert logged(trainer, "dynamic_sampling/staleness_max")[1] == 1
    assert all(0 < norm < 100 for norm in logged(trainer, "grad_norm"))


@pytest.mark.parametrize("name", TRAINERS)
def test_an_evaluation_with_continuous_batching_is_one(tmp_path, name):
    """The host leaves the model in training mode after it has generated so."""
    options = {"dynamic_sampling": True, "mask_truncated_completions": True, "soft_overlong_cache": 4, "max_steps": 2}
    evaluation = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 8}
    trainer_args = {"eval_dataset": prompts(8)}
    trainer = TRAINERS[name](tmp_path, HalfThenAll(), None, trainer_args, **options, **evaluation, **CONTINUOUS)
    trainer.train()
    assert len(logged(trainer, "eval_reward")) == len(logged(trainer, "grad_norm")) == 2
    assert all("soft_overlong" not in key for entry in trainer.state.log_history for key in entry if "eval" in key)
    assert len(logged(trainer, "eval_rewards/unscored")) == 2
    assert len(logged(trainer, "rewards/unscored")) == len(logged(trainer, "dynamic_sampling/rounds"))
    trainer.evaluate()
    assert not trainer.model.training


def test_continuous_batching_writes_what_the_default_backend_writes(tmp_path):
    """Nearly greedy, so that the two may be compared; prompts of several lengths, in their order."""
    cold = {"temperature": 1e-4, "dynamic_sampling": False}
    plain = dapo_trainer(tmp_path / "plain", **cold)
    batched = dapo_trainer(tmp_path / "batched", **cold, **CONTINUOUS)
    prompts = [row["prompt"] for row in plain.train_dataset.select(range(12))]
    assert len({len(prompt) for prompt in prompts}) > 3
    expected, completions = (each._generate(prompts)[1] for each in (plain, batched))
    assert completions == expected
    assert len({tuple(ids) for ids in expected}) > 3


@pytest.mark.parametrize("mode", ["colocate", "server"])
@pytest.mark.parametrize("name", TRAINERS)
def test_a_stubbed_vllm_engine_with_dynamic_sampling_surplus_and_correction(tmp_path, monkeypatch, name, mode):
    """The correction of every row, also of one that waited, is of the policy that wrote it, against the engine's."""
    vllm_stub.install(monkeypatch)
    options = {"dynamic_sampling": True, "max_steps": 8, "learning_rate": 1e-1, "vllm_mode": mode, **VLLM}
    trainer = TRAINERS[name](tmp_path, rare_first_token, **options)
    engine = trainer.vllm_generation.engine
    batches = []
    generate = trainer._generate_and_score_completions
    monkeypatch.setattr(
        trainer, "_generate_and_score_completions", lambda inputs: batches.append(generate(inputs)) or batches[-1]
    )
    trainer.train()

    assert engine.synchronized == len(batches) == 4  # once for each generation, whatever it refills
    assert max(logged(trainer, "dynamic_sampling/rounds")) > 1
    assert sum(logged(trainer, "dynamic_sampling/staleness_max")) > 0
    assert trainer.sampler.ledger.informative_fraction == 1.0
    ratios = []
    for batch in batches:
        for row, ratio in enumerate(batch["importance_sampling_ratio"]):
            prompt = batch["prompt_ids"][row][batch["prompt_mask"][row] == 1].tolist()
            completion = batch["completion_ids"][row][batch["completion_mask"][row] == 1].tolist()
            written = engine.written[tuple(prompt), tuple(completion)]
            expected = [(torch.tensor(policy) - torch.tensor(own)).exp() for policy, own in written]
            ratio = ratio[: len(completion)]
            assert any(torch.allclose(ratio, each, rtol=1e-4) for each in expected)
            ratios += ratio.tolist()
    assert max(ratios) > 1.01 > 0.99 > min(ratios)


def test_evaluation_generates_with_the_stubbed_engine_and_filters_nothing(tmp_path, monkeypatch):
    vllm_stub.install(monkeypatch)
    trainer = dapo_trainer(tmp_path, odd_length, per_device_eval_batch_size=8, vllm_mode="server", **VLLM)
    result = trainer.evaluate(trainer.train_dataset.select(range(4)))
    assert 0 <= result["eval_reward"] <= 1
    assert len(trainer.vllm_generation.engine.written) > 4
