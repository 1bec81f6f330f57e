"""Everything by which two runs can be told apart, as plain values that one process can hand to another."""

import hashlib
from typing import Any

import numpy as np
import torch


# Of log records: how long something took, and the mean loss of the last `train()` call, which is the host's own report
OF_THIS_CALL = (
    "step_time",
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
)


def digest(value: Any) -> Any:
    """The value itself, with a hash of the bytes in the place of every tensor and array."""
    if isinstance(value, dict):
        return {str(key): digest(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [digest(item) for item in value]
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    if isinstance(value, np.ndarray):
        return hashlib.sha256(value.tobytes()).hexdigest()
    return value if isinstance(value, int | float | str | None) else repr(value)


def record_of(trainer) -> dict[str, Any]:
    """Weights, optimizer, schedule, log, random state and the sampler's state of a trainer that has finished."""
    sampler = trainer.sampler and trainer.sampler.state()
    return {
        "step": trainer.state.global_step,
        "epoch": trainer.state.epoch,
        "weights": digest(dict(trainer.model.named_parameters())),
        "optimizer": digest(trainer.optimizer.state_dict()),
        "schedule": digest(trainer.lr_scheduler.state_dict()),
        "log": log_without_times(trainer),
        "random state": digest(torch.get_rng_state()),
        "sampler": sampler and digest(vars(sampler)),
    }


def log_without_times(trainer) -> list[dict[str, Any]]:
    return [
        {name: repr(value) for name, value in record.items() if name not in OF_THIS_CALL}
        for record in trainer.state.log_history
    ]


def watch_batches(trainer) -> dict[str, list]:
    """Digests of the micro-batches trained on, by optimizer step; filled while the trainer trains."""
    seen: dict[str, list] = {}
    compute_loss = trainer._compute_loss

    def loss_of(model, inputs, *args):
        if model.training:
            seen.setdefault(str(trainer.state.global_step), []).append(digest(inputs))
        return compute_loss(model, inputs, *args)

    trainer._compute_loss = loss_of
    return seen
