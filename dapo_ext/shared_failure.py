"""What the user's code raises on one rank ends all of them, where the others would wait for it in a collective."""

import traceback

from accelerate import Accelerator
from accelerate.utils import gather_object


def fail_on_every_rank(failure: Exception | None, culprit: str, accelerator: Accelerator) -> None:
    """
    Raise on every rank when there is a failure on any; to be called by all of them.

    Args:
        failure (`Exception` or `None`):
            What was raised on this rank.
        culprit (`str`):
            What may have raised it, such as `"a reward function"`.
        accelerator ([`~accelerate.Accelerator`]):
            Of the run.

    Raises:
        Exception: `failure`, on the rank it came from.
        RuntimeError: on the others, with the traceback of the lowest rank that failed.
    """
    failed = []
    if accelerator.num_processes > 1:
        own = None if failure is None else "".join(traceback.format_exception(failure))
        failed = [(origin, text) for origin, text in enumerate(gather_object([own])) if text is not None]
    if failure is not None:
        raise failure
    if failed:
        origin, text = failed[0]
        rank = accelerator.process_index
        raise RuntimeError(f"Rank {rank} ends because {culprit} failed on rank {origin}:\n\n{text}")
