"""The methods that `python -m benchmarks algorithms` compares: trainer, configuration, learning rates tried."""

from dataclasses import dataclass
from typing import Any

from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer

from benchmarks.playground_runs import SETTING
from dapo_ext import DAPOConfig, DAPOTrainer
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer


NUM_GENERATIONS = 8
PROMPTS_PER_GENERATION = 64
UPDATES_PER_GENERATION = 8
SEQUENCES_PER_UPDATE = PROMPTS_PER_GENERATION * NUM_GENERATIONS // UPDATES_PER_GENERATION
# The longest right answer without a redo has 39 tokens, and the punishment starts at 41
SOFT_OVERLONG_CACHE = 8

ON_POLICY = {
    **SETTING,
    "per_device_train_batch_size": SEQUENCES_PER_UPDATE,
    "steps_per_generation": UPDATES_PER_GENERATION,
    "num_generations": NUM_GENERATIONS,
    "beta": 0.0,  # no KL term, so that only ratio, advantage and aggregation differ
}
OF_GENERATIONS = {"steps_per_generation", "num_generations", "max_completion_length"}
OFFLINE = {name: value for name, value in SETTING.items() if name not in OF_GENERATIONS} | {
    "per_device_train_batch_size": SEQUENCES_PER_UPDATE // 2  # pairs
}


@dataclass(frozen=True)
class Method:
    """One row of the table."""

    label: str
    trainer: type
    config: type
    settings: dict[str, Any]

    @property
    def is_offline(self) -> bool:
        return issubclass(self.trainer, DPOTrainer)


def _grpo(label: str, **changes: Any) -> Method:
    return Method(label, GRPOTrainer, GRPOConfig, {**ON_POLICY, "loss_type": "grpo", **changes})


def _pg_grpo(label: str, **changes: Any) -> Method:
    return Method(label, PGGRPOTrainer, PGGRPOConfig, {**ON_POLICY, **changes})


METHODS: dict[str, Method] = {
    "grpo": _grpo("GRPO (TRL)", epsilon=0.2),
    "gspo": _grpo("GSPO (TRL)", importance_sampling_level="sequence", epsilon=3e-4, epsilon_high=4e-4),
    "dapo": Method("DAPO", DAPOTrainer, DAPOConfig, {**ON_POLICY, "soft_overlong_cache": SOFT_OVERLONG_CACHE}),
    "pg-grpo-0.03": _pg_grpo("PG-GRPO, pg_beta 0.03", pg_beta=0.03),
    "pg-grpo-0.1": _pg_grpo("PG-GRPO, pg_beta 0.1", pg_beta=0.1),
    "pg-grpo-0.3": _pg_grpo("PG-GRPO, pg_beta 0.3", pg_beta=0.3),
    "pg-grpo-1": _pg_grpo("PG-GRPO, pg_beta 1", pg_beta=1.0),
    "pg-grpo-as-proposed": _pg_grpo("PG-GRPO as proposed (pg_beta 0.1, KL 0.001)", beta=PGGRPOConfig.beta),
    "pg-grpo-with-dapo": _pg_grpo(
        "PG-GRPO, pg_beta 0.1, DAPO's switches", dynamic_sampling=True, epsilon_high=0.28, loss_type="dapo"
    ),
    "dpo": Method("DPO (TRL), offline", DPOTrainer, DPOConfig, dict(OFFLINE)),
    "pg-dpo": Method("PG-DPO, offline", PGDPOTrainer, PGDPOConfig, dict(OFFLINE)),
}
BASELINE = "grpo"
