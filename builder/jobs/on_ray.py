"""Jobs as tasks of a Ray cluster."""

from __future__ import annotations

import os
from typing import Any

from builder.errors import UnfitEnvironmentError
from builder.jobs.jobs import Exit, Job, Task
from builder.jobs.process import run_task
from builder.jobs.settings import RaySweep

_KILLED = -9


class RayLauncher:
    """Gives each job to Ray when what it shares with others has been computed; Ray decides when and where it runs."""

    pause = 0.5

    def __init__(self, settings: RaySweep, *, jobs: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise UnfitEnvironmentError(
                "sweep.launcher=ray needs ray, which is not installed",
                hint="pip install -c constraints.txt 'coreml-builder[ray]'",
            ) from error
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray tells its makers about clusters that it starts
        self.limit = settings.jobs or jobs
        self.threads: int | None = settings.cpus
        try:
            ray.init(address=settings.address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, SystemExit) as error:  # a driver that is refused exits
            where = settings.address or "this machine"
            why = " ".join(str(error).split())[:300]
            raise UnfitEnvironmentError(f"Ray on {where} does not answer: {why}") from error
        # A build that was lost is a failed job of the sweep, and not tried again behind its back.
        self._run = ray.remote(num_cpus=settings.cpus, memory=settings.job_memory, max_retries=0)(run_task)

    def start(self, _job: Job, task: Task) -> RayTask:
        """Hand a job to Ray."""
        return RayTask(self._run.remote(task))

    def lacks(self, _job: Job) -> str | None:
        """Nothing: Ray keeps a job until there is room."""
        return None

    def finished(self, _job: Job, _exit: Exit) -> None:
        """Nothing to learn: what a job may take is in the settings."""

    def close(self) -> None:
        """Nothing is left behind."""


class RayTask:
    """A task that waits for room, or runs somewhere."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self._stopped = False

    def ended(self) -> Exit | None:
        """Return how it ended, None while it waits or runs."""
        import ray

        done, _ = ray.wait([self._reference], timeout=0)
        if not done:
            return None
        if self._stopped:
            return Exit(code=130, seconds=0.0)
        try:
            result = ray.get(self._reference)
        except ray.exceptions.RayError as error:
            return Exit(code=_KILLED, seconds=0.0, said=f"ended by Ray: {str(error).splitlines()[0]}")
        assert isinstance(result, Exit)  # what run_task returns
        return result

    def stop(self) -> None:
        """Cancel it, as Ctrl-C does."""
        import ray

        self._stopped = True
        ray.cancel(self._reference)

    def kill(self) -> None:
        """End its worker."""
        import ray

        ray.cancel(self._reference, force=True)
