"""PG-GRPO on Hugging Face TRL: the preference ratio, on top of `dapo_ext`."""

from .config import PGGRPOConfig
from .trainer import PGGRPOTrainer


__all__ = ["PGGRPOConfig", "PGGRPOTrainer"]
