"""Completions of prompts, tokenized and decoded as TRL's `GRPOTrainer` does it."""

from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from trl.chat_template_utils import parse_response
from trl.data_utils import is_conversational
from trl.trainer.utils import pad


def tokenize(prompts: list[Any], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Token ids of each prompt, unpadded."""
    if is_conversational({"prompt": prompts[0]}):
        return tokenizer.apply_chat_template(prompts, add_generation_prompt=True, tokenize=True, return_dict=True)[
            "input_ids"
        ]
    return tokenizer(text=prompts)["input_ids"]


def find_eos_token_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a completion: the tokenizer's and those of the checkpoint's generation config."""
    of_model = model.generation_config.eos_token_id
    of_model = of_model if isinstance(of_model, list) else [of_model]
    return sorted({token for token in (tokenizer.eos_token_id, *of_model) if token is not None})


def sample(
    model: PreTrainedModel, prompt_ids: list[list[int]], generation_config: GenerationConfig, batch_size: int
) -> list[list[int]]:
    """Sample one completion per prompt, up to and including its first end-of-sequence token, in the given order."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    # Batches of equal lengths waste no padding, and the longest come first so that memory runs out early if at all.
    order = sorted(range(len(prompt_ids)), key=lambda i: -len(prompt_ids[i]))
    completion_ids: list[list[int]] = [[]] * len(order)
    try:
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            prompts = [torch.tensor(prompt_ids[i]) for i in batch]
            input_ids = pad(prompts, padding_value=generation_config.pad_token_id, padding_side="left")
            attention_mask = pad([torch.ones_like(p) for p in prompts], padding_value=0, padding_side="left")
            with torch.no_grad():
                output = model.generate(
                    input_ids=input_ids.to(model.device),
                    attention_mask=attention_mask.to(model.device),
                    generation_config=generation_config,
                )
            for i, ids in zip(batch, output[:, input_ids.size(1) :].tolist(), strict=True):
                end = next((t + 1 for t, token in enumerate(ids) if token in generation_config.eos_token_id), len(ids))
                completion_ids[i] = ids[:end]
    finally:
        for module, mode in modes:
            module.training = mode
    return completion_ids


def decode(
    rows: list[dict[str, Any]],
    prompt_ids: list[list[int]],
    completion_ids: list[list[int]],
    tokenizer: PreTrainedTokenizerBase,
) -> list[Any]:
    """Completions in the format of the prompts: strings, or lists of one message."""
    if not is_conversational(rows[0]):
        return tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    if getattr(tokenizer, "response_template", None) or getattr(tokenizer, "response_schema", None):
        return [
            [parse_response(tokenizer, ids, prefix=prefix)]
            for ids, prefix in zip(completion_ids, prompt_ids, strict=True)
        ]
    texts = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
    return [[{"role": "assistant", "content": text}] for text in texts]
