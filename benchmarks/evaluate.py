"""`python -m benchmarks evaluate`: avg@k and pass@k with intervals of a saved model on mathematics."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from benchmarks.harness.results import write_result
from dapo_ext import Evaluation, evaluate


def main(argv: Sequence[str]) -> int:
    """Parse, evaluate, print and write."""
    arguments = _parser().parse_args(argv)
    try:
        from benchmarks.recipes.math_data import load_rows, math_rows
        from benchmarks.recipes.math_reward import math_reward
    except ModuleNotFoundError as error:
        raise SystemExit(f"{error}. Answers are compared by math-verify: pip install 'pg-grpo[math]'.") from error
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    rows = math_rows(load_rows(arguments.data, arguments.config, arguments.split), tokenizer.chat_template is not None)
    if arguments.limit is not None:
        rows = rows.select(range(min(arguments.limit, len(rows))))
    result = evaluate(
        arguments.model,
        tokenizer,
        rows,
        math_reward,
        k=arguments.k,
        max_completion_length=arguments.max_completion_length,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    print(describe(result))
    if arguments.out:
        options = vars(arguments) | {"out": str(arguments.out)}
        write_result(arguments.out, "evaluate", "evaluate", {"model": options}, [figures(result)], {})
    return 0


def describe(result: Evaluation) -> str:
    """The figures as lines of text."""
    low, high = result.avg_at_k_interval
    lines = [
        f"{result.num_prompts} prompts x {result.k} completions, {result.mean_length:.1f} tokens each, "
        f"{result.truncated_fraction:.1%} cut off",
        f"avg@{result.k}: {result.avg_at_k:.3f} [{low:.3f}, {high:.3f}]",
    ]
    for size, share in result.pass_at_k.items():
        low, high = result.pass_at_k_interval[size]
        lines.append(f"pass@{size}: {share:.3f} [{low:.3f}, {high:.3f}]")
    return "\n".join(lines)


def figures(result: Evaluation) -> dict[str, Any]:
    """The figures, and the number of successes of each prompt."""
    names = ("avg_at_k", "avg_at_k_interval", "pass_at_k", "pass_at_k_interval", "k", "num_prompts", "mean_length")
    successes = (result.rewards >= 0.5).sum(axis=1).tolist()
    measured = {name: getattr(result, name) for name in (*names, "truncated_fraction")}
    return json.loads(json.dumps({**measured, "successes": successes}))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks evaluate",
        description="Sample k answers to every problem and compare them with the solutions by math-verify: avg@k and "
        "pass@k with 95 % intervals. Data is GSM8K-shaped (question, answer), AIME-shaped (problem, answer), "
        "DAPO-Math-17k, or has the columns prompt and solution.",
    )
    parser.add_argument("model", type=str, help="directory of a saved model, or a name on the Hub")
    parser.add_argument("data", help="JSON, JSON lines, Parquet or CSV file, or a dataset on the Hub")
    parser.add_argument("--config", help="configuration of a dataset on the Hub, such as main for openai/gsm8k")
    parser.add_argument("--split", default="test", help="split of a dataset on the Hub (default: %(default)s)")
    parser.add_argument("--limit", type=int, help="problems, from the first on (default: all)")
    parser.add_argument("--k", type=int, default=4, help="answers to each problem (default: %(default)s)")
    parser.add_argument("--max-completion-length", type=int, default=1024, help="tokens (default: %(default)s)")
    parser.add_argument("--temperature", type=float, default=1.0, help="(default: %(default)s)")
    parser.add_argument("--top-p", type=float, default=1.0, help="(default: %(default)s; DAPO's AIME figures: 0.7)")
    parser.add_argument("--batch-size", type=int, default=64, help="answers sampled at a time (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser
