"""The order of a later epoch, found again by samplers that begin with the first."""

import torch
from trl.trainer.utils import RepeatSampler


def seek_epoch(dataloader, epoch: int) -> None:
    """
    Bring a fresh dataloader's sampler to an epoch, as if it had gone through the ones before.

    TRL's sampler draws each epoch's order from one generator; Accelerate's derives it from the epoch's number, which
    the host does not hand on where it skips batches or splits them among ranks. Both go on with the next epoch by
    themselves.

    Args:
        dataloader (`~torch.utils.data.DataLoader`):
            As Accelerate prepared it; one over an iterable dataset is left alone.
        epoch (`int`):
            Number of the epoch, from 0.
    """
    sampler = getattr(dataloader, "batch_sampler", None)
    while (inner := getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)) is not None:
        sampler = inner
    if isinstance(sampler, RepeatSampler):
        if sampler.shuffle:
            for _ in range(epoch):
                torch.randperm(sampler.num_samples, generator=sampler.generator)
    elif sampler is not None and hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
