"""What is refused, and why: of configuration, model, rewards and data."""

from .form import refusal


__all__ = ["refusal"]
