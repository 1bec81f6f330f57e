"""Answers compared as mathematics, by math-verify, for completions as text or as messages."""

import threading
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify


# What is boxed is the answer; without a box, the last formula or number
EXTRACTION = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())


def math_reward(completions: list[Any], solution: list[str], **kwargs) -> list[float]:
    r"""
    Reward function: 1 for a completion whose answer equals the solution, else 0.

    TRL's `accuracy_reward` wants completions as messages and an answer in LaTeX. This one also takes text, and finds an
    answer that is a plain number, such as `#### 72` or `The answer is 72.`, so that base models can be measured too.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions, as text or each as a list of one message.
        solution (`list[str]`):
            Right answers: a number or an expression, in LaTeX or plain.
        **kwargs:
            What else a trainer passes; ignored.

    Returns:
        `list[float]`: one reward per completion.
    """
    # math-verify's time limits use signals, which only the main thread has
    in_main_thread = threading.current_thread() is threading.main_thread()
    limits = (5, 5) if in_main_thread else (None, None)
    texts = [text if isinstance(text, str) else text[-1]["content"] for text in completions]
    return [_equal(text, gold, *limits) for text, gold in zip(texts, solution, strict=True)]


def _equal(text: str, gold: str, parsing_timeout: int | None, verify_timeout: int | None) -> float:
    expected = parse(gold, parsing_timeout=parsing_timeout)
    found = parse(text, extraction_config=EXTRACTION, parsing_timeout=parsing_timeout)
    return float(verify(expected, found, timeout_seconds=verify_timeout))
