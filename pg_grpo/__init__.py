"""PG-GRPO on Hugging Face TRL: the preference ratio, on top of `dapo_ext`."""

from .dpo_config import PGDPOConfig
from .dpo_trainer import PGDPOTrainer


__all__ = ["PGDPOConfig", "PGDPOTrainer"]
