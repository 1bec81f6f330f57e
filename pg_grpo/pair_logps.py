"""Log-probabilities of a batch of preference pairs: read from what the model returned, and summed exactly."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


# Columns of a batch with the reference's, where the dataset or the search for pairs has brought them
REFERENCE = ("ref_chosen_logps", "ref_rejected_logps")
NOT_FOR_THE_MODEL = ("completion_mask", *REFERENCE)


@contextmanager
def collected_outputs(model: torch.nn.Module) -> Iterator[list]:
    """What the model returns in the body, in the order of its calls."""
    outputs: list = []
    handle = model.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def sequence_logps(per_token_logps: torch.Tensor, inputs: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities of whole completions in float32, shape `(2, B)`: chosen and rejected."""
    # Prompt-learning adapters put virtual tokens before the real ones; masked positions are zero
    tokens = inputs["completion_mask"].size(1) - 1
    return per_token_logps[:, -tokens:].sum(dim=1, dtype=torch.float32).view(2, -1)


def completion_lengths(inputs: dict[str, Any]) -> torch.Tensor:
    """Completion tokens with a log-probability, shape `(2, B)`: chosen and rejected."""
    return inputs["completion_mask"][:, 1:].sum(dim=1).view(2, -1)
