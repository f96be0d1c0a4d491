"""Bounds what one call of a program from a file takes: a loop in it may never end, and what it holds may double."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.util.child import OUT_OF_TIME, doing, is_child
from builder.util.memory import available

MOST_SECONDS = 300
"""Of each processor that a call may use; a forward of the largest models that fit into memory takes a minute."""


@contextmanager
def bounded(what: str, *, seconds: float = MOST_SECONDS) -> Iterator[None]:
    """Let what runs inside take `seconds` of each processor, and the memory that is free when it begins.

    Native code hears nothing, so the kernel ends a child that computes for longer, and its parent reports that. What
    asks for more memory than there is raises RuntimeError or MemoryError. Where this process is not a child, or bounded
    already, nothing changes.
    """
    if not is_child() or signal.getsignal(OUT_OF_TIME) is not signal.SIG_DFL or _is_bounded():
        yield
        return
    with doing(f"while running {what}"), _bounded_memory():
        signal.setitimer(signal.ITIMER_PROF, seconds * _threads())
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)


def _is_bounded() -> bool:
    return signal.getitimer(signal.ITIMER_PROF)[0] > 0


def _threads() -> int:
    """How many processors torch and onnxruntime use at most: their time adds up."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdecimal() and int(given) else os.cpu_count() or 1


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Refuse more memory than is free (Linux), before the kernel ends whatever takes the most."""
    held = Path("/proc/self/statm")
    if not held.exists():
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(held.read_text(encoding="ascii").split()[5]) * resource.getpagesize() + available()
    bounds = [most, *(limit for limit in before if limit != resource.RLIM_INFINITY)]
    resource.setrlimit(resource.RLIMIT_DATA, (min(bounds), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
