"""Mathematics data in the forms it is published in, as prompts and solutions."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from math_verify import parse


# As in Qwen's own evaluations
INSTRUCTION = "Please reason step by step, and put your final answer within \\boxed{}."
# What DAPO-Math-17k asks for around every problem: an answer in another place
DAPO_HEAD = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem."
)
DAPO_TAIL = 'Remember to put your answer on its own line after "Answer:".'
FILE_LOADERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
GSM8K_MARK = "####"


def load_rows(name: str, config: str | None = None, split: str = "test") -> Dataset:
    """
    Rows of a local JSON, JSON lines, Parquet or CSV file, or of a dataset on the Hub.

    Raises:
        ValueError: for a path that looks local and does not exist.
    """
    path = Path(name)
    if path.is_file():
        if path.suffix not in FILE_LOADERS:
            raise ValueError(f"{path} cannot be read: it has to end in one of {', '.join(FILE_LOADERS)}.")
        return load_dataset(FILE_LOADERS[path.suffix], data_files=str(path), split="train")
    if path.suffix in FILE_LOADERS:
        raise ValueError(f"{path} does not exist.")
    return load_dataset(name, config, split=split)


def math_rows(rows: Dataset, conversational: bool = True) -> Dataset:
    """
    Prompts and solutions, as TRL's `accuracy_reward` and [`~benchmarks.recipes.math_reward.math_reward`] take them.

    Args:
        rows (`Dataset`):
            GSM8K (`question`, `answer` with the result after `####`), AIME (`problem` and `answer`, in any case) or
            DAPO-Math-17k (`prompt`, whose own instruction is taken out, and `reward_model` with `ground_truth`); or
            `prompt` and `solution` already.
        conversational (`bool`, *optional*, defaults to `True`):
            Whether a prompt is a list of one message, for models with a chat template, or text.

    Returns:
        `Dataset`: columns `prompt` and `solution`.

    Raises:
        ValueError: for columns of no known form, or a row whose solution no verifier can read.
    """
    convert = _converter(rows.column_names)

    def make(row: Mapping[str, Any], index: int) -> dict[str, Any]:
        question, solution = convert(row)
        if not parse(solution, parsing_timeout=None):
            raise ValueError(f"Row {index}: its solution {solution!r} is no mathematical expression.")
        text = question if INSTRUCTION in question else f"{question}\n{INSTRUCTION}"
        return {"prompt": [{"role": "user", "content": text}] if conversational else f"{text}\n", "solution": solution}

    return rows.map(make, with_indices=True, remove_columns=rows.column_names)


def _converter(columns: list[str]) -> Callable[[Mapping[str, Any]], tuple[str, str]]:
    names = {column.lower(): column for column in columns}
    if {"question", "answer"} <= names.keys():
        return lambda row: (row[names["question"]], gsm8k_solution(row[names["answer"]]))
    if {"problem", "answer"} <= names.keys():
        return lambda row: (row[names["problem"]], str(row[names["answer"]]))
    if {"prompt", "reward_model"} <= names.keys():
        return lambda row: (dapo_problem(_text(row["prompt"])), str(row["reward_model"]["ground_truth"]))
    if {"prompt", "solution"} <= names.keys():
        return lambda row: (_text(row["prompt"]), str(row["solution"]))
    raise ValueError(
        f"The columns {columns} are of no known form. Rename them to `question` and `answer`, `problem` and `answer`, "
        "or `prompt` and `solution`."
    )


def dapo_problem(prompt: str) -> str:
    """A problem without what DAPO-Math-17k says before and after it."""
    return prompt.strip().removeprefix(DAPO_HEAD).removesuffix(DAPO_TAIL).strip()


def gsm8k_solution(answer: str) -> str:
    """What stands after `####`, without thousands separators."""
    return re.sub(r"(?<=\d),(?=\d)", "", str(answer).rsplit(GSM8K_MARK, 1)[-1].strip())


def _text(prompt: str | list[Mapping[str, str]]) -> str:
    return prompt if isinstance(prompt, str) else prompt[-1]["content"]
