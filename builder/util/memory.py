"""Gives memory that nobody uses back to the system, where there is enough of it to matter."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys
from pathlib import Path

LARGE = 2**30
"""Resident bytes below which nothing is done: a collection costs a tenth of a second and more."""

_PAGE = 4096


def give_back_memory() -> None:
    """Collect cycles (a program of coremltools is one) and return what the allocator keeps for later, if it is much."""
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        resident = LARGE  # a system that does not tell
    if resident < LARGE:
        return
    gc.collect()
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no malloc_trim, and keeps nothing either
            ctypes.CDLL(None).malloc_trim(0)
