"""The methods that `python -m benchmarks algorithms` and `on_policy` compare."""

from dataclasses import replace
from typing import Any

from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from benchmarks.harness.methods import COMPLETIONS_PER_GENERATION, SOFT_OVERLONG_SHARE, Method, offline, on_policy
from dapo_ext import DAPOConfig, DAPOTrainer
from pg_grpo import PGDPOConfig, PGDPOTrainer, PGGRPOConfig, PGGRPOTrainer


UPDATES_PER_GENERATION = 8
COMPLETIONS_PER_UPDATE = COMPLETIONS_PER_GENERATION // UPDATES_PER_GENERATION
BASELINE, OFFLINE_BASELINE = "grpo", "dpo"
# The grids reach as far for every method with a ratio of whole completions: how far an update may take the plain ratio
# decides much. With pg_beta .1 and a clip at .2 that is from .8^10 = .11 to 1.2^10 = 6.2. The last value of each grid
# lies beyond the one that trials of the first three chose where that was at their edge, else between their best two
PG_BETAS = ({"pg_beta": 0.1}, {"pg_beta": 0.3}, {"pg_beta": 1.0}, {"pg_beta": 0.5})
RLOO_CLIPS = (
    {"epsilon": 0.2},
    {"epsilon": 0.5, "epsilon_high": 1.0},
    {"epsilon": 0.8, "epsilon_high": 4.0},
    {"epsilon": 0.35, "epsilon_high": 0.5},
)
# As published for answers of thousands of tokens, and wider: a mean over some 25 tokens moves further. The widest is
# from .94^25 = .21 to 1.08^25 = 6.8
GSPO_CLIPS = tuple({"epsilon": 3e-4 * width, "epsilon_high": 4e-4 * width} for width in (1, 50, 200, 100))
PROPOSED_KL = 0.001


def _rows(layout: dict[str, Any]) -> dict[str, Method]:
    def pg_grpo(label: str, **changes: Any) -> Method:
        return Method(label, PGGRPOTrainer, PGGRPOConfig, {**layout, **changes}, PG_BETAS)

    grpo = {**layout, "loss_type": "grpo"}
    epsilons = tuple({"epsilon": epsilon} for epsilon in (0.2, 0.1, 0.4, 0.8))
    return {
        "grpo": Method("GRPO (TRL)", GRPOTrainer, GRPOConfig, grpo, epsilons),
        "rloo": Method("REINFORCE (TRL's RLOO)", RLOOTrainer, RLOOConfig, layout, RLOO_CLIPS),
        "gspo": Method(
            "GSPO (TRL)", GRPOTrainer, GRPOConfig, {**grpo, "importance_sampling_level": "sequence"}, GSPO_CLIPS
        ),
        "dapo": Method(
            "DAPO",
            DAPOTrainer,
            DAPOConfig,
            {**layout, "soft_overlong_cache": SOFT_OVERLONG_SHARE},
            tuple({"epsilon_high": epsilon} for epsilon in (0.28, 0.2, 0.4, 0.34)),
        ),
        "pg-grpo": pg_grpo("PG-GRPO, no KL"),
        "pg-grpo-as-proposed": pg_grpo(f"PG-GRPO as proposed, KL {PROPOSED_KL:g}", beta=PROPOSED_KL),
        "pg-grpo-with-dapo": pg_grpo(
            "PG-GRPO, no KL, DAPO's switches",
            dynamic_sampling=True,
            epsilon_high=0.28,
            loss_type="dapo",
            soft_overlong_cache=SOFT_OVERLONG_SHARE,
        ),
    }


# The offline methods take as many sequences per update: a pair is two
PAIRS = offline(COMPLETIONS_PER_UPDATE // 2)
METHODS: dict[str, Method] = {
    **_rows(on_policy(UPDATES_PER_GENERATION)),
    "dpo": Method(
        "DPO (TRL), offline", DPOTrainer, DPOConfig, PAIRS, tuple({"beta": beta} for beta in (0.1, 0.03, 0.3, 1.0))
    ),
    "pg-dpo": Method(
        "PG-DPO, offline", PGDPOTrainer, PGDPOConfig, PAIRS, tuple({"pg_beta": beta} for beta in (0.1, 0.03, 0.3, 0.01))
    ),
}


def _on_policy_rows() -> dict[str, Method]:
    """One update on each generation, of as many completions as the updates above."""
    rows = _rows(on_policy(1, COMPLETIONS_PER_UPDATE))
    # A surplus group that waits would be of an older policy
    dapo = replace(rows["dapo"], settings={**rows["dapo"].settings, "carry_surplus": False})
    return {"grpo": rows["grpo"], "rloo": rows["rloo"], "dapo": dapo, "pg-grpo": rows["pg-grpo"]}


ON_POLICY_METHODS = _on_policy_rows()
