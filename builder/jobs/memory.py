"""How much memory is free, how much a build takes, and whether one more fits."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.jobs.jobs import Job
from builder.util import paths
from builder.util.memory import available

BASE_BYTES = 650_000_000
"""What a build takes besides the weights: Python with torch and coremltools, and the passes over a small program.

Measured on Linux x86-64 with torch 2.13 and coremltools 9.0, all stages and checks: 0.56 GB with 1.7 MB of weights,
0.80 GB with 47 MB (ResNet-18), 1.44 GB with 178 MB (ResNet-101); the guess lies above each.
"""
TIMES_WEIGHTS = 6
"""Copies of the weights that are alive at the worst moment of a build (source, graph, conversion, checks)."""
UNKNOWN_WEIGHTS = 250_000_000
"""For a source whose weights cannot be sized before it is loaded."""
KEPT_FREE = 0.05
"""The share of what is free that is left to everybody else."""
_NEVER_MEASURED_BELOW = 150_000_000
"""A peak below this is of a job that was answered from the store, and says nothing about a build."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A running job: its process (None on another machine) and what it may grow to."""

    pid: int | None
    estimate: int


def fits(estimate: int, running: Iterable[Running], *, limit: int | None) -> bool:
    """Whether a job of `estimate` bytes can start: what runs already may still grow to its own estimates.

    With `limit` the estimates of all jobs together stay below it too.
    """
    running = list(running)
    growth = sum(max(0, job.estimate - (resident(job.pid) if job.pid is not None else 0)) for job in running)
    within = limit is None or estimate + sum(job.estimate for job in running) <= limit
    return within and estimate + growth <= available() * (1 - KEPT_FREE)


def resident(pid: int) -> int:
    """Bytes that a process holds in memory now; 0 when it has ended."""
    if not Path("/proc/self/status").exists():
        printed = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        return int(printed.strip() or 0) * 1024
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


class Peaks:
    """The largest peak of earlier jobs by what they loaded, kept in `outputs/sweeps/peaks.json`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError, AttributeError):
            read = json.loads(path.read_text(encoding="utf-8"))
            self._known = {key: peak for key, peak in read.items() if isinstance(peak, int)}

    def estimate(self, job: Job) -> int:
        """How much a job will take: the measured peak of one like it and a tenth, else a guess from the weights."""
        measured = self._known.get(job.prefixes["load"])
        if measured is not None:
            return measured + measured // 10
        weights = UNKNOWN_WEIGHTS if job.weights_bytes is None else job.weights_bytes
        return BASE_BYTES + TIMES_WEIGHTS * weights

    def measured(self, job: Job, peak: int | None) -> None:
        """Take in the peak of a job that has ended, and write it down."""
        if peak is None or peak < _NEVER_MEASURED_BELOW or peak <= self._known.get(job.prefixes["load"], 0):
            return
        self._known[job.prefixes["load"]] = peak
        text = json.dumps(dict(sorted(self._known.items())), indent=1) + "\n"
        with contextlib.suppress(OSError):  # a hint for the next sweep, without which it guesses
            paths.write_atomically(self._path, text)


def weights_bytes(files: Iterable[Path], torchvision_name: str | None) -> int | None:
    """The size of the files that a source names, or of torchvision's download of them; None where neither is there."""
    sizes = [_size(path) for path in files if path.exists()]
    if sizes or torchvision_name is None:
        return sum(sizes) if sizes else None
    home = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch")
    return max((_size(path) for path in (home / "hub" / "checkpoints").glob(f"{torchvision_name}-*.pth")), default=None)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(child.stat().st_size for child in path.rglob("*") if child.is_file())
    return path.stat().st_size
