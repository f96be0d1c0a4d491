"""Ends a process with everything that it started, however deep."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path

_PROCESSES = Path("/proc")


def kill_tree(pid: int) -> None:
    """Kill a process and all below it; those that it let go of (whose parent has ended) are not below it.

    Each is stopped before its children are looked for, so that it starts no more. Where the system has no `/proc`
    (macOS; not run by the tests), the process itself ends, and its children where they notice.
    """
    found, waiting = [], [pid]
    while waiting:
        current = waiting.pop()
        _signal(current, signal.SIGSTOP)
        found.append(current)
        waiting += _children(current)
    for each in found:
        _signal(each, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    return [child for child, parent in _parents().items() if parent == pid]


def _parents() -> Mapping[int, int]:
    """The parent of every process, by its number."""
    found = {}
    for entry in _PROCESSES.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has ended meanwhile
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            found[int(entry.name)] = int(fields[1])
    return found


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
