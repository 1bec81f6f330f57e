"""The order of a later epoch, found again by a sampler that begins with the first."""

import torch
from trl.trainer.utils import RepeatSampler


def seek_epoch(dataloader, epoch: int) -> None:
    """
    Bring TRL's sampler to an epoch, as if it had gone through the ones before.

    It draws the order of each epoch from one generator, which begins anew with the process. Other samplers are left
    alone: they find the epoch's order by its number, or draw it from torch's random state.

    Args:
        dataloader (`~torch.utils.data.DataLoader`):
            As Accelerate prepared it.
        epoch (`int`):
            Number of the epoch, from 0.
    """
    sampler = getattr(dataloader, "batch_sampler", None)
    while sampler is not None and not isinstance(sampler, RepeatSampler):
        sampler = getattr(sampler, "batch_sampler", None) or getattr(sampler, "sampler", None)
    if sampler is not None and sampler.shuffle:
        for _ in range(epoch):
            torch.randperm(sampler.num_samples, generator=sampler.generator)
