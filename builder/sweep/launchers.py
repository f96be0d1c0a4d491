"""The launcher that a sweep's settings ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.sweep.local import LocalLauncher
from builder.sweep.scheduler import Launcher
from builder.sweep.settings import LocalSweep, SubmititSweep, SweepSettings


def launcher_for(
    settings: SweepSettings, *, jobs: int, folder: Path, peaks: Path, worker: Sequence[str] | None
) -> Launcher:
    """Return the launcher; jobs of this machine are forks of the command `worker`, if there is one.

    Raises UnfitEnvironmentError where what the launcher needs is not installed.
    """
    if isinstance(settings, LocalSweep):
        return LocalLauncher(settings, peaks=peaks, jobs=jobs, worker=worker)
    if isinstance(settings, SubmititSweep):
        from builder.sweep.on_slurm import SubmititLauncher

        return SubmititLauncher(settings, folder=folder / "submitit", jobs=jobs)
    from builder.sweep.on_ray import RayLauncher

    return RayLauncher(settings, jobs=jobs)
