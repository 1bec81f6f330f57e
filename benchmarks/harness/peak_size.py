"""The largest size a process has had."""

import resource
import sys
from pathlib import Path


STATUS = Path("/proc/self/status")


def peak_resident_bytes() -> int:
    """
    Largest resident set of this process, of the program that it runs now.

    Linux's `ru_maxrss` also counts what the process was before it ran another program: in a child of a large process,
    the parent's size.
    """
    if STATUS.exists():
        lines = STATUS.read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
