"""Policies in 4-bit: gradients that are right on the CPU, and adapters in a precision that works and stays."""

import torch
from accelerate.logging import get_logger

from .precision import bf16_obstacle
from .refusals import refusal


logger = get_logger(__name__)

# Of bitsandbytes' 4-bit layers: whether they may repack their weights for inference on this CPU, and whether they have
MAY_REPACK = "support_avx512bf16_for_cpu"
REPACKED = "packing_format_for_cpu"


class TrainsQuantizedPolicy:
    """
    Mixin, to stand before a TRL trainer among the bases.

    - On CPUs with bfloat16 instructions bitsandbytes repacks 4-bit weights at the first pass in evaluation mode, for a
      kernel that has no gradient: training that goes on after an evaluation then has wrong gradients, with a warning of
      PyTorch's at most. Layers of the policy are told not to.
    - TRL keeps the adapters of quantized models in bfloat16, whatever `bf16` and `fp16` say. Where bfloat16 cannot be
      used, and under fp16, whose gradient scaling does not know it, trainable weights are kept in float32 instead.
    - A run that is resumed goes on in the precision it began with, where PEFT would read the adapters back in float32.

    Raises:
        ValueError: for a policy whose weights have been repacked already.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        keep_differentiable(self.model)
        widen_adapters(self.model, self.args.fp16, self.args.use_cpu)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        policy = self.model if model is None else model
        dtypes = {name: parameter.dtype for name, parameter in policy.named_parameters()}
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for name, parameter in policy.named_parameters():
            if parameter.requires_grad and parameter.dtype != dtypes[name]:
                parameter.data = parameter.data.to(dtypes[name])


def keep_differentiable(model: torch.nn.Module) -> None:
    """Keep 4-bit layers in the format that has a gradient; an error for one that has left it."""
    for name, module in model.named_modules():
        if getattr(module, MAY_REPACK, False):
            if getattr(module.weight.quant_state, REPACKED, False):
                raise refusal(
                    "model",
                    type(model).__name__,
                    f"bitsandbytes has repacked the 4-bit weights of {name} for inference on the CPU, where they have "
                    "no gradient",
                    "load the model again and pass it before it is used in evaluation mode",
                )
            setattr(module, MAY_REPACK, False)


def widen_adapters(model: torch.nn.Module, fp16: bool, use_cpu: bool) -> None:
    """Bring trainable bfloat16 weights to float32: under fp16, and where bfloat16 does not work."""
    narrow = [
        parameter for parameter in model.parameters() if parameter.requires_grad and parameter.dtype == torch.bfloat16
    ]
    if not narrow:
        return
    is_quantized = getattr(model, "is_loaded_in_4bit", False) or getattr(model, "is_loaded_in_8bit", False)
    obstacle = None
    if fp16:
        obstacle = "fp16=True scales the gradients, which PyTorch does not do in bfloat16"
    # A GPU without bfloat16 units emulates them, so that there only what nobody asked to be narrow is widened
    elif is_quantized or use_cpu or not torch.accelerator.is_available():
        obstacle = bf16_obstacle(use_cpu)
    if obstacle is not None:
        for parameter in narrow:
            parameter.data = parameter.data.float()
        logger.warning(f"Trainable weights are kept in float32: {obstacle}.")
