"""Which prompts to generate next: a posterior over every prompt's pass rate, and draws from it."""

from .selector import Draw, PromptSelector, SelectionSettings


__all__ = ["Draw", "PromptSelector", "SelectionSettings"]
