"""DAPO on Hugging Face TRL: `GRPOTrainer` -> `DAPOTrainer`, `GRPOConfig` -> `DAPOConfig`."""

from .config import DAPOConfig
from .diagnosis import GenerationBudgetExhausted
from .evaluation import Evaluation, evaluate
from .guards import TrainingGuards
from .trainer import DAPOTrainer


__all__ = ["DAPOConfig", "DAPOTrainer", "Evaluation", "GenerationBudgetExhausted", "TrainingGuards", "evaluate"]
