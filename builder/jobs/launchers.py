"""The launcher that a sweep's settings ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.jobs.local import LocalLauncher
from builder.jobs.scheduler import Launcher
from builder.jobs.settings import SubmititSweep, SweepSettings


def launcher_for(
    settings: SweepSettings, *, jobs: int, folder: Path, peaks: Path, worker: Sequence[str] | None
) -> Launcher:
    """Return the launcher; jobs of this machine are forks of the command `worker`, if there is one.

    Raises UnfitEnvironmentError where what the launcher needs is not installed.
    """
    if isinstance(settings, SubmititSweep):
        from builder.jobs.on_slurm import SubmititLauncher

        return SubmititLauncher(settings, folder=folder / "submitit", jobs=jobs)
    return LocalLauncher(settings, peaks=peaks, jobs=jobs, worker=worker)
