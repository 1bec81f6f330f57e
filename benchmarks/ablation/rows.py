"""The rows of the ablation: DAPO's techniques one on top of the other, and each left out of the whole."""

from typing import Any

from trl import GRPOConfig, GRPOTrainer

from benchmarks.harness.methods import SOFT_OVERLONG_SHARE, Method, on_policy
from dapo_ext import DAPOConfig, DAPOTrainer


UPDATES_PER_GENERATION = 16  # as in the paper
EPSILON = 0.2
LAYOUT = {**on_policy(UPDATES_PER_GENERATION), "epsilon": EPSILON}
# DAPOTrainer without any of them
BARE: dict[str, Any] = {
    "mask_truncated_completions": False,
    "epsilon_high": EPSILON,
    "soft_overlong_cache": 0,
    "loss_type": "grpo",
    "dynamic_sampling": False,
    "prompt_selection": "uniform",
}
# In the paper's order
TECHNIQUES: dict[str, tuple[str, dict[str, Any]]] = {
    "overlong-filtering": ("overlong filtering", {"mask_truncated_completions": True}),
    "clip-higher": ("clip-higher", {"epsilon_high": 0.28}),
    "soft-overlong": ("soft overlong punishment", {"soft_overlong_cache": SOFT_OVERLONG_SHARE}),
    "token-level": ("token-level loss", {"loss_type": "dapo"}),
    "dynamic-sampling": ("dynamic sampling", {"dynamic_sampling": True}),
}
UNPUBLISHED = "overlong-filtering"  # a rung of the paper's ladder, and not of its best run's recipe
PREDICTIVE = "predictive-selection"
NAIVE, WHOLE, LEFT_OUT = "naive", "dynamic-sampling", "without-"
# AIME 2024 avg@32 of Qwen2.5-32B: the paper's own ladder, and an independent reproduction of its upper end
PUBLISHED = {
    NAIVE: 30,
    "overlong-filtering": 36,
    "clip-higher": 38,
    "soft-overlong": 41,
    "token-level": 42,
    "dynamic-sampling": 50,
}
REPRODUCED = {"soft-overlong": 44, "token-level": 50, "dynamic-sampling": 52}


def _dapo(label: str, techniques: list[str], **changes: Any) -> Method:
    settings = {**LAYOUT, **BARE}
    for name in techniques:
        settings |= TECHNIQUES[name][1]
    return Method(label, DAPOTrainer, DAPOConfig, {**settings, **changes})


def _rows() -> dict[str, Method]:
    names = list(TECHNIQUES)
    rows = {NAIVE: Method("naive GRPO (TRL)", GRPOTrainer, GRPOConfig, {**LAYOUT, "loss_type": "grpo"})}
    for rung, name in enumerate(names):
        rows[name] = _dapo(f"+ {TECHNIQUES[name][0]}", names[: rung + 1])
    rows[PREDICTIVE] = _dapo("+ predictive selection", names, prompt_selection="predictive")
    for name in names:
        if name != WHOLE:  # the whole without dynamic sampling is the rung below it
            label = f"DAPO without {TECHNIQUES[name][0]}" + (" (published recipe)" if name == UNPUBLISHED else "")
            rows[f"{LEFT_OUT}{name}"] = _dapo(label, [other for other in names if other != name])
    return rows


METHODS = _rows()
LADDER = tuple(name for name in METHODS if not name.startswith(LEFT_OUT))


def compared_with(names: list[str]) -> dict[str, str]:
    """For each row of a table the one it is compared with: the rung below it that is there, or the whole."""
    rungs = [name for name in LADDER if name in names]
    against = dict(zip(rungs[1:], rungs[:-1], strict=True))
    left_out = [name for name in names if name.startswith(LEFT_OUT)]
    return against | {name: WHOLE for name in left_out if WHOLE in names}
