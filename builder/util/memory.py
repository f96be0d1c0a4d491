"""Gives memory that nobody uses back to the system, where there is enough of it to matter."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import sys
from pathlib import Path

LARGE = 2**30
"""Resident bytes below which nothing is done: a collection costs a tenth of a second and more."""


def give_back_memory() -> None:
    """Collect cycles (a program of coremltools is one) and return what the allocator keeps for later, if it is much."""
    if _resident() < LARGE:
        return
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no malloc_trim, and keeps nothing either
            ctypes.CDLL(None).malloc_trim(0)


def _resident() -> int:
    """Bytes that this process holds in memory; where /proc is missing (macOS), the most that it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
