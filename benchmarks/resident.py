"""The largest resident memory since a moment, as Linux counts it."""

import ctypes
from pathlib import Path


def forget_peak() -> float:
    """Begin to look for the largest resident size; return the present one in GiB."""
    # Memory freed earlier, and kept by the allocator, would hide what is taken from now on.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return _gib("VmRSS")


def peak_gib() -> float:
    """Return the largest resident size since `forget_peak` in GiB."""
    return _gib("VmHWM")


def _gib(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 2**20
