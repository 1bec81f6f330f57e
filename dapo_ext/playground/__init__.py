"""The playground: a task, a teacher and a policy that train offline in minutes on two CPU cores.

The task is a chained sum mod 10 with a scratchpad: for the prompt `9-1-4-1=` a right completion is
`-1:8-4:4-1:3#3<eos>`, in which every step repeats operator and operand and gives the running result. The policy, a
Qwen3 model of 0.3M parameters, first learns from a teacher that errs in a systematic way, and reinforcement learning
has the rest to gain. Models and datasets are ordinary ones, so that any trainer runs on them.
"""

from .policy import build_policy, build_tokenizer
from .task import correctness_reward, make_dataset
from .teacher import teacher_completion
from .warm_start import warm_start


__all__ = ["build_policy", "build_tokenizer", "correctness_reward", "make_dataset", "teacher_completion", "warm_start"]
