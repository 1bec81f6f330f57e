"""The bounded exponential under every preference ratio."""

import torch


# Largest |log ratio| that is exponentiated. At 1,000 tokens a log ratio of 50 is ordinary, and exp overflows float32 at
# 88.7 and float16 at 11; exp(20) = 4.9e8 is far outside any clip range, and its square is finite in float32.
MAX_LOG_RATIO = 20.0


def bounded_exp(log_ratio: torch.Tensor) -> torch.Tensor:
    """
    `exp(clamp(x, -MAX_LOG_RATIO, MAX_LOG_RATIO))`, in float32 at least.

    Beyond the bound the gradient is zero. Where the loss pushes a ratio down (`A < 0`) the upper bound is therefore an
    implicit dual clip at `exp(MAX_LOG_RATIO)`.

    Args:
        log_ratio (`torch.Tensor`):
            Exponents, of any shape.

    Returns:
        `torch.Tensor` of the same shape; float64 stays float64, everything else becomes float32.
    """
    if log_ratio.dtype != torch.float64:
        log_ratio = log_ratio.float()
    return log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
