"""Evaluation by sampling: avg@k and pass@k with 95 % intervals."""

from .sampled_evaluation import Evaluation, evaluate


__all__ = ["Evaluation", "evaluate"]
