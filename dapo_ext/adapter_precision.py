"""The precision of the adapters of a quantized model: one that works on this CPU, and the same after a resumption."""

import torch
from accelerate.logging import get_logger

from .precision import cpu_bf16_obstacle


logger = get_logger(__name__)


class KeepsAdapterPrecision:
    """
    Mixin, to stand before a TRL trainer among the bases.

    TRL keeps the adapters of quantized models in bfloat16, whatever `bf16` says. On a CPU where that cannot be used
    they are kept in float32 instead. And a run that is resumed goes on in the precision it began with, where PEFT would
    read the adapters back in float32.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        widen_adapters(self.model)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        policy = self.model if model is None else model
        dtypes = {name: parameter.dtype for name, parameter in policy.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad and parameter.dtype != dtypes[name]:
                parameter.data = parameter.data.to(dtypes[name])


def widen_adapters(model: torch.nn.Module) -> None:
    """Bring trainable bfloat16 weights on the CPU to float32 where bfloat16 cannot be used there."""
    narrow = [
        parameter
        for parameter in model.parameters()
        if parameter.requires_grad and parameter.dtype == torch.bfloat16 and parameter.device.type == "cpu"
    ]
    obstacle = cpu_bf16_obstacle() if narrow else None
    if obstacle is not None:
        for parameter in narrow:
            parameter.data = parameter.data.float()
        logger.warning(f"Trainable weights are kept in float32: {obstacle}.")
