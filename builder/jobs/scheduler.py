"""Runs jobs as many at a time as there is room for, and each shared stage once before the jobs that share it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from builder.jobs.jobs import Exit, Job, Task
from builder.jobs.watch import LogEvent, Watch, next_stage

GRACE_SECONDS = 1.0
"""How long a job that was asked to stop may take before it is killed."""
PATIENCE_SECONDS = 60.0
"""How long a job waits for memory that other programs hold, when no job of ours runs."""


class Handle(Protocol):
    """A started job."""

    def ended(self) -> Exit | None:
        """Return how it ended, None while it runs; not asked again afterwards."""

    def stop(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""


class Launcher(Protocol):
    """Where jobs run."""

    limit: int
    """How many at a time."""
    pause: float
    """Seconds between two looks."""
    threads: int | None
    """How many threads each job should take, so that all together take the machine once; None leaves it open."""

    def start(self, job: Job, task: Task, /) -> Handle:
        """Start a job."""

    def blocked_reason(self, job: Job, /) -> str | None:
        """Return what is missing for one more job beside those that run, None if it can start."""

    def finished(self, job: Job, exit: Exit, /) -> None:
        """Learn from a job that has ended."""

    def close(self) -> None:
        """No more jobs will be started, and none runs."""


class Listener(Protocol):
    """Who is told."""

    def started(self, job: Job) -> None:
        """A job begins."""

    def at(self, job: Job, stage: str) -> None:
        """A job is at this stage."""

    def warned(self, job: Job, message: str) -> None:
        """A job warns."""

    def ended(self, job: Job, exit: Exit, *, stopped: bool) -> None:
        """A job has ended; with `stopped`, because we were interrupted."""


class Interruption:
    """Counts requests to stop, so that none hits in the middle of something."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def noticed(self) -> Iterator[None]:
        """Count SIGINT, SIGTERM and SIGHUP while the block runs, instead of what they do otherwise."""
        if threading.current_thread() is not threading.main_thread():  # Python handles signals in the main one only
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._count) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _count(self, _number: int, _frame: object) -> None:
        self.count += 1


@dataclass(kw_only=True)
class _Active:
    job: Job
    handle: Handle
    watch: Watch


@dataclass(kw_only=True)
class Scheduler:
    """The state of a running sweep."""

    launcher: Launcher
    listener: Listener
    task_of: Callable[[Job], Task]
    interruption: Interruption
    active: list[_Active] = field(default_factory=list)
    computed: set[tuple[str, str]] = field(default_factory=set)
    """Stages, each with the digest of its prefix, whose result is in the store."""
    more: Callable[[], Sequence[Job]] = tuple
    """Gives jobs that are only known when others have ended; asked while there is room, and nothing means no more."""

    def run(self, jobs: Sequence[Job]) -> bool:
        """Run all jobs; returns False when it was interrupted, with no job left running."""
        waiting = list(jobs)
        starved_since: float | None = None
        with self.interruption.noticed():
            while not self.interruption.count:
                self._look()
                if len(waiting) + len(self.active) < self.launcher.limit:
                    waiting += self.more()
                if not waiting and not self.active:
                    break
                starved = self._start_what_fits(waiting)
                if starved is None or self.active:
                    starved_since = None
                else:
                    starved_since = starved_since or time.monotonic()
                    if time.monotonic() - starved_since > PATIENCE_SECONDS:
                        waiting.remove(starved)
                        text = self.launcher.blocked_reason(starved) or "there was no room for it"
                        self.listener.ended(starved, Exit(code=7, seconds=0.0, summary=text), stopped=False)
                        starved_since = None
                if waiting or self.active:
                    time.sleep(self.launcher.pause)
            if self.interruption.count:
                self._stop_all()
        return not self.interruption.count

    def _look(self, *, stopped: bool = False) -> None:
        """Tell what running jobs said, and which have ended."""
        for active in list(self.active):
            exit = active.handle.ended()
            self._report(active.job, active.watch.news())
            if exit is not None:
                self.active.remove(active)
                if exit.code in (0, 5):  # the artifact was made; with 5 it missed a limit
                    self.computed.update(active.job.prefixes.items())
                self.launcher.finished(active.job, exit)
                self.listener.ended(active.job, exit, stopped=stopped)

    def _report(self, job: Job, summary: LogEvent) -> None:
        for stage in summary.ended:
            if stage in job.prefixes:
                self.computed.add((stage, job.prefixes[stage]))
        if summary.ended:
            self.listener.at(job, next_stage(summary.ended[-1]))
        for message in summary.warnings:
            self.listener.warned(job, message)

    def _start_what_fits(self, waiting: list[Job]) -> Job | None:
        """Start jobs while there is room; returns the first that only lacks memory."""
        starved = None
        for job in list(waiting):
            if len(self.active) >= self.launcher.limit or self.interruption.count:
                break
            if self._is_shared_work_running(job):
                continue
            if self.launcher.blocked_reason(job):
                starved = starved or job
                continue
            waiting.remove(job)
            task = self.task_of(job)
            self.listener.started(job)
            try:
                handle = self.launcher.start(job, task)
            except OSError as error:
                self.listener.ended(
                    job, Exit(code=7, seconds=0.0, summary=f"cannot be started: {error}"), stopped=False
                )
                continue
            self.active.append(_Active(job=job, handle=handle, watch=Watch(Path(task.log))))
        return starved

    def _is_shared_work_running(self, job: Job) -> bool:
        """Whether a running job is just computing what this one needs too, or writes the same folder."""
        for other in (active.job for active in self.active):
            if other.place == job.place:
                return True
            shared = set(job.prefixes.items()) & set(other.prefixes.items())
            if not shared <= self.computed:
                return True
        return False

    def _stop_all(self) -> None:
        """Ask all jobs to end, and kill what does not; a second request kills at once."""
        for active in self.active:
            active.handle.stop()
        asked, deadline = self.interruption.count, time.monotonic() + GRACE_SECONDS
        killed = False
        while self.active:
            self._look(stopped=True)
            if not killed and (time.monotonic() > deadline or self.interruption.count > asked):
                for active in self.active:
                    active.handle.kill()
                killed = True
            time.sleep(0.02)
