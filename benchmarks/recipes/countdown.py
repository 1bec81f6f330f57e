"""Countdown: reach a target with the four operations, using each of the given numbers exactly once."""

import ast
import operator
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from datasets import Dataset


QUESTION = (
    "Using the numbers {numbers}, create an equation that equals {target}. You can use the operations +, -, *, / and "
    "parentheses, and each number exactly once. Reason step by step, and give the equation without its right side in "
    "<answer> </answer> tags, for example <answer>(1 + 2) / 3</answer>."
)
ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
OPERATIONS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}
LONGEST = 200  # characters of an equation; what is longer uses more numbers than there are


def countdown_rows(rows: Dataset) -> Dataset:
    """
    Prompts of rows with `nums` and `target`.

    Returns:
        `Dataset`: columns `prompt` (messages), `nums` and `target`, as [`countdown_reward`] takes them.
    """

    def make(row: Mapping[str, Any]) -> dict[str, Any]:
        numbers = ", ".join(map(str, row["nums"]))
        return {"prompt": [{"role": "user", "content": QUESTION.format(numbers=numbers, target=row["target"])}]}

    return rows.map(make).select_columns(["prompt", "nums", "target"])


def countdown_reward(completions: list[Any], nums: list[list[int]], target: list[int], **kwargs) -> list[float]:
    """
    Reward function: 1 where the last answer is an equation that uses every number once and hits the target, else 0.

    Args:
        completions (`list[str]` or `list[list[dict]]`):
            Completions, as text or each as a list of one message.
        nums (`list[list[int]]`), target (`list[int]`):
            Numbers and target of each row.
        **kwargs:
            What else a trainer passes; ignored.
    """
    texts = [text if isinstance(text, str) else text[-1]["content"] for text in completions]
    return [float(_solves(text, *task)) for text, *task in zip(texts, nums, target, strict=True)]


def _solves(text: str, numbers: Sequence[int], target: int) -> bool:
    answers = ANSWER.findall(text)
    if not answers or len(answers[-1]) > LONGEST:
        return False
    try:
        tree = ast.parse(answers[-1].strip(), mode="eval").body
        value, used = _evaluate(tree)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return False
    return Counter(used) == Counter(numbers) and value == target


def _evaluate(node: ast.expr) -> tuple[Fraction, list[int]]:
    """Exact value of an expression, and the numbers in it; whatever is no sum, product or number is a ValueError."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return Fraction(node.value), [node.value]
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        (left, used_left), (right, used_right) = _evaluate(node.left), _evaluate(node.right)
        return OPERATIONS[type(node.op)](left, right), used_left + used_right
    raise ValueError(f"{ast.dump(node)} is no number and none of the four operations")
