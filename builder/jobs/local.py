"""Jobs as processes of this machine, as many as its processors and memory take."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from builder.jobs import memory
from builder.jobs.forks import Fork, ForkServer, can_fork
from builder.jobs.jobs import Exit, Job, Task
from builder.jobs.process import Process
from builder.jobs.settings import LocalSweep
from builder.reports.plain import size
from builder.util.memory import available


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class LocalLauncher:
    """Starts a job where its memory fits beside what runs, as a fork of `worker` where there is one."""

    pause = 0.05

    def __init__(self, settings: LocalSweep, *, peaks: Path, jobs: int, worker: Sequence[str] | None = None) -> None:
        self.limit = min(settings.jobs or processors(), jobs)
        self.threads: int | None = max(1, processors() // self.limit)
        self._settings = settings
        self._peaks = memory.Peaks(peaks)
        self._running: dict[int, memory.Running] = {}
        self._worker = worker if can_fork() else None
        self._server: ForkServer | None = None

    def start(self, job: Job, task: Task) -> Process | Fork:
        """Start a job."""
        process = self._forked(task) or Process(task)
        self._running[job.number] = memory.Running(pid=process.pid, estimate=self._estimate(job))
        return process

    def _forked(self, task: Task) -> Fork | None:
        """Start a job as a fork, None where there is nothing to fork from or no longer."""
        if self._worker is None:
            return None
        try:
            self._server = self._server or ForkServer(self._worker, task.environment)
            return self._server.start(task)
        except ConnectionError:  # killed, or what it imports is broken: a job on its own tells what is wrong
            self._worker = None
            return None

    def blocked_reason(self, job: Job) -> str | None:
        """Return what is missing in words, None if the job fits."""
        estimate = self._estimate(job)
        if memory.fits(estimate, self._running.values(), limit=self._settings.memory):
            return None
        allowed = f"; sweep.memory allows {size(self._settings.memory)}" if self._settings.memory else ""
        free = f"{size(available())} are free{allowed}"
        return f"it needs about {size(estimate)} of memory, and {free} (`sweep.job_memory=…` corrects the estimate)"

    def finished(self, job: Job, exit: Exit) -> None:
        """Remember how much memory it took."""
        del self._running[job.number]
        if exit.code in (0, 5):
            self._peaks.measured(job, exit.peak_bytes)

    def close(self) -> None:
        """End the process that jobs were forked from."""
        if self._server is not None:
            self._server.close()

    def _estimate(self, job: Job) -> int:
        return self._settings.job_memory or self._peaks.estimate(job)
