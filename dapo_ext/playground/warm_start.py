"""The warm start: supervised training of the playground's policy on the teacher's completions, by curriculum.

This is a loop of its own and not TRL's `SFTTrainer`, which takes 1.12 times the CPU time for the same 550 steps of 64
rows (1.19 with its own tokenization), seeds the global random state, and wants all 35,200 rows before it starts.
"""

import json
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM, get_cosine_schedule_with_warmup
from trl.trainer.utils import pad

from .policy import EOS_TOKEN_ID, PAD_TOKEN_ID, build_policy, build_tokenizer
from .task import draw_prompt
from .teacher import teacher_completion


BATCH_SIZE = 64
LEARNING_RATE = 4e-3
ADAM_BETAS = (0.9, 0.98)
WARMUP_SHARE = 0.1  # of the steps, linear; the rest is a cosine to 0
MAX_GRAD_NORM = 1.0
CURRICULUM = ((0.25, 3), (0.5, 5))  # (share of the steps up to which it holds, largest number of terms)
MAX_TERMS = 10  # of the rest of the steps
IGNORED_LABEL = -100
SETTINGS_FILE = "warm_start.json"


def warm_start(
    output_dir: str | os.PathLike,
    seed: int = 0,
    steps: int = 550,
    redo_rate: float = 0.15,
    max_terms: int = MAX_TERMS,
    on_step: Callable[[int, int, float], None] | None = None,
    learning_rate: float = LEARNING_RATE,
    policy: Mapping[str, int] | None = None,
    device: str = "cpu",
) -> Path:
    r"""
    Train [`build_policy`] on completions of the teacher and save it as a model directory; reuse it if it is there.

    The loss is the cross-entropy in nats per completion token. Prompts are drawn from the `"train"` split with the
    number of terms uniform over 2..3, then 2..5, then 2..10 (`CURRICULUM`), up to `max_terms`. The weights depend on
    the settings alone (to the last bit on one machine with one number of threads), and the global random state is left
    as it was.

    The directory appears whole or not at all: an interrupted run leaves nothing that could be taken for a finished
    one. Besides model and tokenizer it holds `warm_start.json` with the settings.

    Args:
        output_dir (`str` or `os.PathLike`):
            Directory to write. Parents are created.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the initial weights and of the data.
        steps (`int`, *optional*, defaults to `550`):
            Number of optimizer steps, of 64 completions each.
        redo_rate (`float`, *optional*, defaults to `0.15`):
            Probability that the teacher redoes a step, see [`teacher_completion`].
        max_terms (`int`, *optional*, defaults to `10`):
            Largest number of terms, at least 2. Shorter sums need fewer steps, each of them cheaper: 250 steps of at
            most 3 terms come to an accuracy of about a third, in a quarter of a minute on one thread.
        on_step (`Callable`, *optional*):
            Called as `on_step(step, steps, loss)` after every optimizer step, with `step` from 1 to `steps`.
        learning_rate (`float`, *optional*, defaults to `4e-3`):
            Largest learning rate; larger policies want smaller ones.
        policy (`Mapping[str, int]`, *optional*):
            Sizes to pass to [`build_policy`] in place of its defaults.
        device (`str`, *optional*, defaults to `"cpu"`):
            Where to train. Kernels as small as those of the default policy gain nothing elsewhere.

    Returns:
        `pathlib.Path`:
            `output_dir`, ready for `from_pretrained`.

    Raises:
        `ValueError`: If `steps` is below 1 or `max_terms` below 2, or if `output_dir` holds a warm start made with
            other settings, or files that are not a warm start.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} trains nothing. Pass at least 1.")
    if max_terms < 2:
        raise ValueError(f"max_terms={max_terms} leaves no sum. Pass at least 2.")
    output_dir = Path(output_dir)
    settings: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "redo_rate": redo_rate,
        "max_terms": max_terms,
        "batch_size": BATCH_SIZE,
        "learning_rate": learning_rate,
    }
    if policy:
        settings["policy"] = dict(policy)
    if _is_finished(output_dir, settings):
        return output_dir
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = dict(policy or {}).get("max_length", tokenizer.model_max_length)
    model = build_policy(seed, **(policy or {})).to(device)
    _train(model, tokenizer, seed, steps, redo_rate, max_terms, on_step, learning_rate)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{output_dir.name}-", dir=output_dir.parent) as staging:
        staged = Path(staging) / output_dir.name
        model.save_pretrained(staged)
        tokenizer.save_pretrained(staged)
        (staged / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n")
        try:
            os.rename(staged, output_dir)
        except OSError:
            # Another process may have finished the same directory meanwhile: its result is as good as this one.
            if not _is_finished(output_dir, settings):
                raise
    return output_dir


def _is_finished(output_dir: Path, settings: dict[str, Any]) -> bool:
    """Whether the directory holds this warm start; an error if it holds anything else."""
    if not output_dir.exists() or (output_dir.is_dir() and not any(output_dir.iterdir())):
        return False
    settings_file = output_dir / SETTINGS_FILE
    if not settings_file.is_file():
        raise ValueError(
            f"{output_dir} exists and is not a warm start (it has no {SETTINGS_FILE}). Nothing was overwritten: choose "
            f"another output_dir, or remove it."
        )
    # The first warm starts did not say how many terms they went up to: all of them
    found = {"max_terms": MAX_TERMS, **json.loads(settings_file.read_text())}
    differing = [key for key in {**settings, **found} if settings.get(key) != found.get(key)]
    if differing:
        changes = ", ".join(f"{key} is {found.get(key)} there and {settings.get(key)} here" for key in differing)
        raise ValueError(
            f"{output_dir} holds a warm start made with other settings: {changes}. Choose another output_dir, remove "
            f"this one, or ask for the settings it was made with."
        )
    return True


def _train(
    model: Qwen3ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    steps: int,
    redo_rate: float,
    max_terms: int,
    on_step: Callable[[int, int, float], None] | None,
    learning_rate: float,
) -> None:
    """Train the policy from its initial weights."""
    rng = random.Random(seed)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=ADAM_BETAS, weight_decay=0.0)
    scheduler = get_cosine_schedule_with_warmup(optimizer, int(WARMUP_SHARE * steps), steps)
    for step in range(steps):
        most_terms = next((min(most, max_terms) for share, most in CURRICULUM if step < share * steps), max_terms)
        input_ids, labels = (rows.to(model.device) for rows in _draw_batch(rng, tokenizer, most_terms, redo_rate))
        # No attention mask: padding is on the right, where causal attention never sees it.
        loss = model(input_ids=input_ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if on_step is not None:
            on_step(step + 1, steps, loss.item())
    model.eval()


def _draw_batch(
    rng: random.Random, tokenizer: PreTrainedTokenizerFast, max_terms: int, redo_rate: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a batch: token ids and labels, both `(BATCH_SIZE, T)`, padded on the right."""
    prompts = [draw_prompt(rng, "train", rng.randint(2, max_terms)) for _ in range(BATCH_SIZE)]
    prompt_ids = tokenizer(prompts)["input_ids"]
    completion_ids = tokenizer([teacher_completion(p, rng, redo_rate) for p in prompts])["input_ids"]
    rows = [
        (torch.tensor(prompt), torch.tensor([*completion, EOS_TOKEN_ID]))
        for prompt, completion in zip(prompt_ids, completion_ids, strict=True)
    ]
    labels = [torch.cat([torch.full_like(prompt, IGNORED_LABEL), completion]) for prompt, completion in rows]
    return pad([torch.cat(row) for row in rows], padding_value=PAD_TOKEN_ID), pad(labels, padding_value=IGNORED_LABEL)
