"""What a process has held is its own, and not that of the larger one it was started by."""

import subprocess
import sys

import psutil
import pytest

from benchmarks.harness.peak_size import peak_resident_bytes


MIB = 2**20
CHILD = "import torch, sys; from benchmarks.harness.peak_size import peak_resident_bytes; print(peak_resident_bytes())"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process knows its own size alone")
def test_a_child_of_a_large_process_is_as_large_as_it_is_itself():
    def child() -> int:
        return int(subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True).stdout)

    small = child()
    held = bytearray(1024 * MIB)
    held[::4096] = b"1" * len(held[::4096])
    assert psutil.Process().memory_info().rss > small + 256 * MIB
    assert abs(child() - small) < 64 * MIB


def test_the_peak_counts_what_was_given_back():
    before = peak_resident_bytes()
    held = bytearray(b"1" * (before + 64 * MIB))
    del held
    assert peak_resident_bytes() > before + 64 * MIB
