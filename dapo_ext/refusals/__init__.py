"""What is refused, and why: of configuration, model, rewards and data."""

from .form import Refusal, refusal


__all__ = ["Refusal", "refusal"]
