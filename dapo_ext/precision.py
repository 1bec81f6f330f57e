"""Whether bfloat16 works where the training will run, tried in another process where trying it could kill this one."""

import functools
import subprocess
import sys

import torch
from accelerate.logging import get_logger
from transformers.utils import is_torch_bf16_gpu_available

from .refusals import refusal


logger = get_logger(__name__)

# Products of a small policy, forward and backward, in the shapes that different kernels are written for
TRIAL = """
import torch
for rows, columns, outputs in ((1, 96, 96), (8, 32, 20), (128, 96, 256), (512, 512, 512)):
    inputs = torch.ones(rows, columns, dtype=torch.bfloat16, requires_grad=True)
    weight = torch.ones(outputs, columns, dtype=torch.bfloat16, requires_grad=True)
    torch.nn.functional.linear(inputs, weight).float().sum().backward()
"""
TRIAL_SECONDS = 120  # a process that has not finished by then is no help either


@functools.cache
def cpu_bf16_obstacle() -> str | None:
    """
    Why bfloat16 cannot be used on this CPU; `None` if it can.

    Some CPUs advertise instructions that the machine around them does not let through, and a product in bfloat16 then
    ends the process. So it is tried in another one, once: about two seconds, most of them the import of torch.
    """
    try:
        trial = subprocess.run([sys.executable, "-c", TRIAL], capture_output=True, timeout=TRIAL_SECONDS, text=True)
    except subprocess.TimeoutExpired:
        return f"a trial product in bfloat16 took more than {TRIAL_SECONDS} seconds on this CPU"
    if trial.returncode < 0:
        return f"a trial product in bfloat16 was ended by signal {-trial.returncode} on this CPU"
    if trial.returncode > 0:
        return f"a trial product in bfloat16 failed on this CPU ({(trial.stderr.splitlines() or ['no message'])[-1]})"
    return None


def bf16_obstacle(use_cpu: bool) -> str | None:
    """
    Why bfloat16 cannot be used, or is only emulated, where a training would run; `None` if it can.

    Args:
        use_cpu (`bool`):
            Whether the CPU is used although there may be an accelerator.

    Returns:
        `str` or `None`: a clause without a full stop.
    """
    if use_cpu or not torch.accelerator.is_available():
        return cpu_bf16_obstacle()
    if torch.cuda.is_available():
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return None
        return f"{torch.cuda.get_device_name()} has no bfloat16 units"
    if is_torch_bf16_gpu_available():
        return None
    return f"{torch.accelerator.current_accelerator()} has no bfloat16"


def settle_cpu_precision(bf16: bool | None, fp16: bool, use_cpu: bool) -> bool | None:
    """
    The value of `bf16` with which a training on this CPU survives; the value itself everywhere else.

    TRL takes bfloat16 unless told otherwise. Where that would kill the process on its first product, a `bf16` left to
    the library becomes `False`, with a warning, and one that was asked for is refused: a killed process says nothing.

    Args:
        bf16 (`bool` or `None`), fp16 (`bool`), use_cpu (`bool`):
            Fields of the configuration.

    Raises:
        ValueError: when `bf16=True` was asked for and cannot work.
    """
    wanted = bf16 or (bf16 is None and not fp16)
    if not (use_cpu and wanted):
        return bf16
    obstacle = cpu_bf16_obstacle()
    if obstacle is None:
        return bf16
    if bf16:
        raise refusal("bf16", bf16, obstacle, "set bf16=False, or leave it out")
    # Not accelerate's logger: a configuration may be made before there is a process group
    logger.logger.warning(f"bf16=False is taken, so that training runs in float32: {obstacle}.")
    return False
