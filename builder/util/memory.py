"""How much memory is free; and gives back to the system what nobody uses, where there is enough of it to matter."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

LARGE = 2**30
"""Resident bytes below which nothing is done: a collection costs a tenth of a second and more."""
GROWN = 2**28
"""Bytes by which memory must have grown since the last time: what was in use then is in use still."""


class GivingBack:
    """Gives memory back whenever a process has grown, and not at each stage of a process that is large for good."""

    def __init__(self) -> None:
        self._left = 0
        """The least resident bytes since the last time, and with it."""

    def __call__(self) -> None:
        """Collect cycles (a program of coremltools is one), and return what the allocator keeps, if it may be much."""
        resident = _resident()
        self._left = min(self._left, resident)
        if resident < LARGE or resident < self._left + GROWN:
            return
        gc.collect()
        if sys.platform == "linux":
            with contextlib.suppress(OSError, AttributeError):  # musl has no malloc_trim, and keeps nothing either
                ctypes.CDLL(None).malloc_trim(0)
        self._left = _resident()


give_back_memory = GivingBack()
"""That of this process."""


def available() -> int:
    """Bytes that can be taken without swapping: of the machine, and of the container that we are in."""
    return min([_of_machine(), *_of_containers(Path("/sys/fs/cgroup"))])


def _of_machine() -> int:
    with contextlib.suppress(FileNotFoundError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _of_mac(subprocess.run(["vm_stat"], capture_output=True, text=True, check=True).stdout)


def _of_mac(statistics: str) -> int:
    """The pages that `vm_stat` counts as free, inactive, speculative or purgeable, in bytes (not run by the tests)."""
    head, *lines = statistics.splitlines()
    page = int(head.partition("page size of ")[2].split()[0])
    counts = {name.strip(): int(count.strip(" .")) for name, _, count in (line.partition(":") for line in lines)}
    return page * sum(counts.get(f"Pages {kind}", 0) for kind in ("free", "inactive", "speculative", "purgeable"))


def _of_containers(root: Path) -> list[int]:
    """What is left of the limits of control groups, version 2 and 1; page cache can be taken back."""
    left = []
    for limit, used in (
        (root / "memory.max", root / "memory.current"),
        (root / "memory" / "memory.limit_in_bytes", root / "memory" / "memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # `max` is not a limit
            statistics = dict(line.split() for line in (limit.parent / "memory.stat").read_text().splitlines())
            cache = int(statistics.get("inactive_file", 0))
            left.append(int(limit.read_text()) - int(used.read_text()) + cache)
    return left


def _resident() -> int:
    """Bytes that this process holds in memory; where /proc is missing (macOS), the most that it ever held."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
