"""The ways to fill a batch that `python -m benchmarks rollouts` compares."""

from trl import GRPOConfig, GRPOTrainer

from benchmarks.harness.methods import Method
from dapo_ext import DAPOConfig, DAPOTrainer
from dapo_ext.sampling.prompt_sources import RoundPrompts, UniformPrompts


SAMPLING = {"dynamic_sampling": True, "soft_overlong_cache": 0}
BASELINE = "grpo"


class WholeBatchPrompts(UniformPrompts):
    """Refills with as many groups as a batch has, however few are missing."""

    def refill(self, missing: int, most: int) -> RoundPrompts | None:
        return super().refill(self._share.batch_groups, most)


class WholeBatchTrainer(DAPOTrainer):
    """[`~dapo_ext.DAPOTrainer`] that refills with whole batches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        uniform = self.sampler.prompts
        self.sampler.prompts = WholeBatchPrompts(uniform.stream, uniform._share, uniform._gather_object)


POLICIES = {
    "plain": Method("TRL, DAPO's loss", GRPOTrainer, GRPOConfig, {"loss_type": "dapo", "epsilon_high": 0.28}),
    BASELINE: Method('TRL, loss "grpo"', GRPOTrainer, GRPOConfig, {"loss_type": "grpo"}),
    "uniform": Method("dynamic sampling, prompts in shuffled order", DAPOTrainer, DAPOConfig, SAMPLING),
    "predictive": Method(
        "dynamic sampling, prompts by estimated pass rate",
        DAPOTrainer,
        DAPOConfig,
        {**SAMPLING, "prompt_selection": "predictive"},
    ),
    "predictive_tokens": Method(
        'prompts by estimated pass rate and length, `selection_cost="tokens"`',
        DAPOTrainer,
        DAPOConfig,
        {**SAMPLING, "prompt_selection": "predictive", "selection_cost": "tokens"},
    ),
    "whole_batch": Method(
        "dynamic sampling, whole batches, surplus dropped",
        WholeBatchTrainer,
        DAPOConfig,
        {**SAMPLING, "carry_surplus": False},
    ),
}
