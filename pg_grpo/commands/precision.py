"""The precision a training command runs in: what was asked for where it works, float32 where it does not."""

from argparse import Namespace
from collections.abc import Callable

import torch

from dapo_ext.precision import bf16_obstacle


def choose_precision(values: Namespace, note: Callable[[str], None]) -> None:
    """
    Settle `use_cpu`, `bf16`, `bf16_full_eval` and `dtype` before the configuration is made of them.

    Args:
        values (`argparse.Namespace`):
            The parsed options, changed in place.
        note (`Callable`):
            Told of every change.
    """
    if not values.use_cpu and not torch.accelerator.is_available():
        values.use_cpu = True
        note("there is no accelerator: training runs on the CPU.")
    by_default = values.bf16 is None and not values.fp16
    asked = [name for name in ("bf16", "bf16_full_eval") if getattr(values, name)]
    narrow_weights = values.dtype in ("bfloat16", "auto")
    if not (by_default or asked or narrow_weights):
        return
    obstacle = bf16_obstacle(values.use_cpu)
    if obstacle is None:
        return
    changes = []
    if by_default:
        values.bf16 = False
    for name in asked:
        setattr(values, name, False)
        changes.append(f"{name}: true is set aside")
    if narrow_weights:
        changes.append(f"dtype: {values.dtype} becomes float32")
        values.dtype = "float32"
    changed = f" ({', '.join(changes)})" if changes else ""
    note(f"float32 is taken{changed}: {obstacle}." + ("" if values.use_cpu else " fp16: true may be faster there."))
