"""Micro-batches without a live row leave the loss's metrics: means are over what is trained on."""

import pytest
import torch

from dapo_ext.reporting.host_metrics import rescale_sequence_metrics
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


def test_an_optimizer_step_without_a_live_row_leaves_the_entropy_controller_alone(tmp_path):
    """In this generation every other one, whose entropy the host would take for 0, which is below the target."""
    control = {"use_adaptive_entropy": True, "entropy_target": 0.01, "entropy_coef": 0.1, "entropy_coef_delta": 0.01}
    trainer = run(dapo_trainer, tmp_path, 4, **control)
    assert [norm > 0 for norm in logged(trainer, "grad_norm")] == [True, False, True, False]
    assert logged(trainer, "entropy_coef") == pytest.approx([0.09, 0.09, 0.08, 0.08])
    assert trainer._last_world_entropy > 1


def test_values_of_whole_rows_are_averaged_over_the_live_ones():
    """Three of seven rows are live; the host's shares are in float32."""
    share = 3 / 7
    mean = torch.tensor([1.0, 1.0, 1.0, 0, 0, 0, 0]).mean().item()
    metrics = {f"clip_ratio/{name}": [0.5, mean] for name in ("low_mean", "low_min", "high_mean", "region_mean")}
    rescale_sequence_metrics(metrics, share)
    assert {name: values[0] for name, values in metrics.items()} == dict.fromkeys(metrics, 0.5)
    assert [values[1] for values in metrics.values()] == pytest.approx([1.0] * 4)
    assert metrics["clip_ratio/low_min"][1] == 1.0
    # A dead row's ratio is 1: no clip of it, and a weight of 1
    others = {"cispo_clip_ratio": [1 / 7], "vespo/phi_seq_mean": [(0.25 + 0.5 + 0.75 + 4) / 7]}
    rescale_sequence_metrics(others, share)
    assert others == {"cispo_clip_ratio": [pytest.approx(1 / 3)], "vespo/phi_seq_mean": [pytest.approx(0.5)]}
