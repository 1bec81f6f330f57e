"""DAPO on Hugging Face TRL: `GRPOTrainer` -> `DAPOTrainer`, `GRPOConfig` -> `DAPOConfig`."""

from .config import DAPOConfig
from .evaluation import Evaluation, evaluate
from .reporting.guards import TrainingGuards
from .sampling.diagnosis import GenerationBudgetExhausted
from .trainer import DAPOTrainer


__all__ = ["DAPOConfig", "DAPOTrainer", "Evaluation", "GenerationBudgetExhausted", "TrainingGuards", "evaluate"]
