"""Micro-batches without a live row leave the loss's metrics: means are over what is trained on."""

import pytest

from tests.pg_tiny import pg_trainer
from tests.tiny import dapo_trainer, logged


def one_informative_group(completion_ids, **kwargs):
    return [float(i % 2) if i < 4 else 0.0 for i in range(len(completion_ids))]


def run(build, output_dir, accumulation: int, **changes):
    """One generation in micro-batches of one row, 4 of 16 live, that moves nothing."""
    trainer = build(
        output_dir,
        one_informative_group,
        dynamic_sampling=True,
        generation_budget=1.0,
        soft_overlong_cache=0,
        per_device_train_batch_size=1,
        steps_per_generation=16,
        gradient_accumulation_steps=accumulation,
        max_steps=16 // accumulation,
        learning_rate=0.0,
        **{"beta": 0.1, "use_bias_correction_kl": False, **changes},
    )
    trainer.train()
    assert trainer.state.global_step == 16 // accumulation
    return trainer


@pytest.mark.parametrize(
    ("build", "changes", "names"),
    [
        (dapo_trainer, {}, ["kl", "clip_ratio/region_mean", "clip_ratio/low_min"]),
        (dapo_trainer, {"importance_sampling_level": "sequence"}, ["clip_ratio/low_min", "clip_ratio/high_max"]),
        (dapo_trainer, {"loss_type": "cispo", "epsilon_high": 5.0}, ["cispo_clip_ratio"]),
        (dapo_trainer, {"loss_type": "vespo"}, ["vespo/phi_seq_mean"]),
        (pg_trainer, {}, ["kl", "clip_ratio/region_mean", "clip_ratio/low_min"]),
    ],
)
def test_dead_micro_batches_leave_the_metrics_of_the_loss(tmp_path, build, changes, names):
    single = run(build, tmp_path, 1, **changes)
    entropies = logged(single, "entropy")
    assert len(logged(single, "loss")) == 16
    assert len(entropies) == 4
    assert min(entropies) > 1  # of a policy that knows nothing
    for name in names:
        assert len(logged(single, name)) == 4, name
    whole = run(build, tmp_path, 16, **changes)
    assert logged(whole, "entropy") == [pytest.approx(sum(entropies) / 4, rel=1e-5)]
