"""Say what is being waited for, while it is being waited for."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate.logging import get_logger


logger = get_logger(__name__)

# Seconds after which a wait is reported for the first time, and again each time it has doubled. Far above the time of
# a local reward, and far below the time after which a collective gives up.
FIRST_NOTICE = 60.0


@contextmanager
def report_waiting(what: str) -> Iterator[None]:
    """
    Warn while the body runs for long: after [`FIRST_NOTICE`] seconds, and whenever the time has doubled.

    Args:
        what (`str`):
            Subject of the sentence, such as `"The reward function 'accuracy'"`.
    """
    ended = threading.Event()

    def watch() -> None:
        started, seconds = time.monotonic(), FIRST_NOTICE
        while not ended.wait(started + seconds - time.monotonic()):
            logger.warning(f"{what} has been running for {seconds:g} seconds.", main_process_only=False)
            seconds *= 2

    watcher = threading.Thread(target=watch, name="report_waiting", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
