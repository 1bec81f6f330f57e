"""The methods that `python -m benchmarks algorithms` and `on_policy` compare."""

from typing import Any

from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from benchmarks.methods import COMPLETIONS_PER_GENERATION, SOFT_OVERLONG_SHARE, Method, offline, on_policy
from dapo_ext import DAPOConfig, DAPOTrainer
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer


UPDATES_PER_GENERATION = 8
COMPLETIONS_PER_UPDATE = COMPLETIONS_PER_GENERATION // UPDATES_PER_GENERATION
BASELINE = "grpo"
PG_BETAS = ({"pg_beta": 0.1}, {"pg_beta": 0.3}, {"pg_beta": 1.0})
# As published for answers of thousands of tokens, and wider: a mean over some 25 tokens moves further
GSPO_CLIPS = tuple({"epsilon": 3e-4 * width, "epsilon_high": 4e-4 * width} for width in (1, 10, 100))


def _rows(layout: dict[str, Any]) -> dict[str, Method]:
    def pg_grpo(label: str, **changes: Any) -> Method:
        return Method(label, PGGRPOTrainer, PGGRPOConfig, {**layout, **changes}, PG_BETAS)

    grpo = {**layout, "loss_type": "grpo"}
    epsilons = tuple({"epsilon": epsilon} for epsilon in (0.2, 0.1, 0.4))
    return {
        "grpo": Method("GRPO (TRL)", GRPOTrainer, GRPOConfig, grpo, epsilons),
        "rloo": Method("REINFORCE (TRL's RLOO)", RLOOTrainer, RLOOConfig, layout, epsilons),
        "gspo": Method(
            "GSPO (TRL)", GRPOTrainer, GRPOConfig, {**grpo, "importance_sampling_level": "sequence"}, GSPO_CLIPS
        ),
        "dapo": Method(
            "DAPO",
            DAPOTrainer,
            DAPOConfig,
            {**layout, "soft_overlong_cache": SOFT_OVERLONG_SHARE},
            tuple({"epsilon_high": epsilon} for epsilon in (0.28, 0.2, 0.4)),
        ),
        "pg-grpo": pg_grpo("PG-GRPO"),
        "pg-grpo-with-dapo": pg_grpo(
            "PG-GRPO, DAPO's switches", dynamic_sampling=True, epsilon_high=0.28, loss_type="dapo"
        ),
    }


# The offline methods take as many sequences per update: a pair is two
PAIRS = offline(COMPLETIONS_PER_UPDATE // 2)
METHODS: dict[str, Method] = {
    **_rows(on_policy(UPDATES_PER_GENERATION)),
    "dpo": Method(
        "DPO (TRL), offline", DPOTrainer, DPOConfig, PAIRS, tuple({"beta": beta} for beta in (0.1, 0.03, 0.3))
    ),
    "pg-dpo": Method(
        "PG-DPO, offline", PGDPOTrainer, PGDPOConfig, PAIRS, tuple({"pg_beta": beta} for beta in (0.1, 0.03, 0.3))
    ),
}
# One update on each generation, of as many completions as the updates above
ON_POLICY_METHODS: dict[str, Method] = {
    name: method
    for name, method in _rows(on_policy(1, COMPLETIONS_PER_UPDATE)).items()
    if name in ("grpo", "rloo", "dapo", "pg-grpo")
}
