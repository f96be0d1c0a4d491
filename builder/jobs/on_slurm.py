"""Jobs on a Slurm cluster by submitit: each asks for its own processors, memory and time."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from builder.errors import UnfitEnvironmentError
from builder.jobs.jobs import Exit, Job, Task
from builder.jobs.local import processors
from builder.jobs.process import run_task
from builder.jobs.settings import SubmititSweep
from builder.util.install import extra

_KILLED = -9


class SubmititLauncher:
    """Submits each job when what it shares with others has been computed; Slurm decides when it runs."""

    def __init__(self, settings: SubmititSweep, *, folder: Path, jobs: int) -> None:
        try:
            import submitit
        except ImportError as error:
            raise UnfitEnvironmentError(
                "sweep.launcher=submitit needs submitit, which is not installed",
                code="B0701",
                hint=extra("submitit"),
            ) from error
        here = settings.cluster == "local"
        self.limit = settings.jobs or (processors() if here else jobs)
        self.pause = 0.1 if here else 2.0
        self.threads: int | None = settings.cpus
        try:
            self._executor = submitit.AutoExecutor(folder=folder, cluster=settings.cluster)
        except RuntimeError as error:  # what submitit raises where srun is not on the path
            raise UnfitEnvironmentError(
                f"there is no Slurm here: {error}",
                code="B0701",
                hint="run it on a login node, or try `sweep.cluster=local`",
            ) from error
        self._executor.update_parameters(
            name="builder",
            timeout_min=settings.minutes,
            cpus_per_task=settings.cpus,
            mem_gb=settings.job_memory / 2**30,
            **({} if here else {"slurm_additional_parameters": dict(settings.slurm)}),
        )

    def start(self, _job: Job, task: Task) -> SubmittedJob:
        """Submit a job; raises OSError where Slurm refuses it."""
        import submitit

        try:
            return SubmittedJob(self._executor.submit(run_task, task))
        except submitit.core.utils.FailedJobError as error:
            raise OSError(str(error).strip().splitlines()[-1]) from error

    def blocked_reason(self, _job: Job) -> str | None:
        """Nothing: Slurm keeps a job until there is room."""
        return None

    def finished(self, _job: Job, _exit: Exit) -> None:
        """Nothing to learn: what a job may take is in the settings."""

    def close(self) -> None:
        """Nothing is left behind."""


class SubmittedJob:
    """A job in the queue, or running somewhere."""

    def __init__(self, job: Any) -> None:
        self._job = job
        self._stopped = False

    def ended(self) -> Exit | None:
        """Return how it ended, None while it waits or runs."""
        if not self._job.done():
            return None
        if self._stopped:
            return Exit(code=130, seconds=0.0)
        import submitit

        try:
            result = self._job.result()
        except (submitit.core.utils.UncompletedJobError, submitit.core.utils.FailedJobError):
            return Exit(
                code=_KILLED, seconds=0.0, summary=f"ended by the cluster as {self._job.state} ({self._logs()})"
            )
        assert isinstance(result, Exit)  # what run_task returns
        return result

    def stop(self) -> None:
        """Cancel it."""
        self._stopped = True
        self._job.cancel(check=False)

    def kill(self) -> None:
        """Cancel it once more: Slurm itself kills what does not end."""
        self._job.cancel(check=False)

    def _logs(self) -> str:
        return f"see {os.path.relpath(self._job.paths.stderr)}"
