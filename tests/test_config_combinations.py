"""Random combinations of the new fields with TRL's: refused at construction, or they train."""

import math
import random
from typing import Any

import pytest

from tests.pg_tiny import pg_config, pg_trainer
from tests.tiny import dapo_config, dapo_trainer, logged
from tests.tiny_pairs import pg_dpo_config, pg_dpo_trainer


LAYOUTS = [
    {"steps_per_generation": 2, "gradient_accumulation_steps": 2},
    {"steps_per_generation": 2, "gradient_accumulation_steps": 1},
    {"steps_per_generation": 4, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
    {"steps_per_generation": 3, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 4},
]
ON_POLICY: dict[str, list[Any]] = {
    "dynamic_sampling": [True, False],
    "filter_rewards": [None, ["odd_length"], []],
    "filter_tolerance": [1e-6, 0.5, -1.0],
    "generation_budget": [10.0, 2.0, 1, 0.2],
    "on_exhausted": ["shrink", "shrink", "raise"],
    "carry_surplus": [True, False],
    "max_staleness": [1, 3],
    "prompt_selection": ["uniform", "predictive"],
    "selection_cost": ["groups", "tokens"],
    "soft_overlong_cache": [0, 0.2, 4],
    "soft_overlong_weight": [1.0, 0.5],
    "token_weighting": ["uniform", "uniform", "entropy"],
    "token_weight_normalization": ["batch", "completion"],
    # TRL's
    "loss_type": ["dapo", "grpo", "bnpo", "dr_grpo", "luspo", "cispo", "sapo", "vespo"],
    "epsilon": [0.2, 0.5],
    "epsilon_high": [None, 0.28, 5.0],
    "delta": [None, 10.0, 1.1],
    "beta": [0.0, 0.1],
    "num_iterations": [1, 2],
    "mask_truncated_completions": [False, True],
    "entropy_coef": [0.0, 0.0, 0.1],
    "importance_sampling_level": ["token", "sequence"],
    "scale_rewards": ["group", "batch", "none", True],
    "multi_objective_aggregation": ["sum_then_normalize", "normalize_then_sum"],
    "shuffle_dataset": [True, False],
    "top_entropy_quantile": [1.0, 0.5],
    "off_policy_mask_threshold": [None, 0.5],
    "use_bias_correction_kl": [None, False],
    "log_completions": [False],
    "": LAYOUTS,
}
PREFERENCE: dict[str, list[Any]] = {
    **ON_POLICY,
    "dynamic_sampling": [False, True],
    "pg_beta": [0.1, 1.0, -1.0],
    "pg_length_exponent": [0.0, 1.0],
    "ratio_level": ["sequence", "token"],
    "loss_type": ["grpo", "dapo", "dr_grpo", "bnpo", "cispo"],
    "importance_sampling_level": [None, None, "token"],
    "use_bias_correction_kl": [False],
    "off_policy_mask_threshold": [None],
}
PAIRS: dict[str, list[Any]] = {
    "pg_beta": [0.1, 1.0],
    "pg_length_exponent": [0.0, 0.5, 2.0],
    "epsilon": [0.2, 1.5],
    "epsilon_high": [None, 0.28],
    "delta": [None, 4.0, 0.5],
    "pg_aggregation": ["sequence", "token"],
    "dynamic_pairs": [False, True],
    "pair_budget": [10.0, 1.0],
    # TRL's
    "loss_type": [["pg"], "pg", ["pg", "sft"], ["sigmoid", "pg"], ["ipo"]],
    "loss_weights": [None, None, [1.0, 0.5], [0.0, 1.0]],
    "precompute_ref_log_probs": [False, True],
    "sync_ref_model": [False, False, True],
    "label_smoothing": [0.0, 0.0, 0.1],
    "max_length": [None, 8],
    "gradient_accumulation_steps": [1, 2],
}
CASES = {
    "DAPO": (dapo_config, dapo_trainer, ON_POLICY),
    "PG-GRPO": (pg_config, pg_trainer, PREFERENCE),
    "PG-DPO": (pg_dpo_config, pg_dpo_trainer, PAIRS),
}


def draw(rng: random.Random, pools: dict[str, list[Any]]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for name in rng.sample(sorted(pools), k=rng.randint(1, 5)):
        changes.update(rng.choice(pools[name]) if name == "" else {name: rng.choice(pools[name])})
    return changes


@pytest.mark.parametrize("runs", [4, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", CASES)
def test_what_is_not_refused_trains(tmp_path, name, runs):
    build, start, pools = CASES[name]
    rng = random.Random(runs)
    accepted = []
    for _ in range(400):
        changes = draw(rng, pools)
        try:
            build(tmp_path, **changes)
        except ValueError:  # ours in the form of every refusal, see test_config_refusals.py, or TRL's own
            continue
        accepted.append(changes)
    assert 100 < len(accepted) < 380
    for number, changes in enumerate(rng.sample(accepted, runs)):
        try:
            trainer = start(tmp_path / str(number), max_steps=1, **changes)
        except ValueError:  # TRL's trainers refuse some combinations themselves
            continue
        trainer.train()
        assert all(math.isfinite(loss) for loss in logged(trainer, "loss")), changes
        assert trainer.state.global_step == 1 or trainer.stop_reason, changes
