"""PG-GRPO on Hugging Face TRL: the preference ratio, on top of `dapo_ext`."""

from .config import PGGRPOConfig
from .dpo_config import PGDPOConfig
from .dpo_trainer import PGDPOTrainer
from .preference_reward import PreferenceReward
from .sampled_pairs import sample_pairs
from .trainer import PGGRPOTrainer


__all__ = ["PGDPOConfig", "PGDPOTrainer", "PGGRPOConfig", "PGGRPOTrainer", "PreferenceReward", "sample_pairs"]
