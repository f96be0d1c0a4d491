"""One job as a child process: started, watched and measured, here or by a launcher on another machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from builder.jobs.jobs import Exit, Task

PEAK_UNIT = 1 if sys.platform == "darwin" else 1024
"""getrusage(2) gives `ru_maxrss` in bytes on macOS (not run by the tests) and in kilobytes on Linux."""


class Process:
    """A running task, in a process group of its own, so that a Ctrl-C reaches it through us alone."""

    def __init__(self, task: Task) -> None:
        self._started = time.monotonic()
        with Path(task.log).open("wb") as log, Path(task.out).open("wb") as out:
            self._process = subprocess.Popen(
                task.command,
                cwd=task.folder,
                env={**os.environ, **task.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                process_group=0,
            )
        self.pid = self._process.pid

    def ended(self, *, wait: bool = False) -> Exit | None:
        """Return how it ended, None while it runs (with `wait`, only when it has ended); to be asked until then."""
        pid, status, usage = os.wait4(self.pid, 0 if wait else os.WNOHANG)
        if pid == 0:
            return None
        code = os.waitstatus_to_exitcode(status)
        self._process.returncode = code  # what Popen would have found itself, but without the peak
        seconds = time.monotonic() - self._started
        return Exit(code=code, seconds=seconds, peak_bytes=usage.ru_maxrss * PEAK_UNIT)

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and everything that it started."""
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)


def run_task(task: Task) -> Exit:
    """Run a task to its end: what a launcher calls on another machine."""
    process = Process(task)
    try:
        ended = process.ended(wait=True)
    except BaseException:  # the launcher was told to stop this job
        process.kill()
        process.ended(wait=True)
        raise
    assert ended is not None  # it was waited for
    return ended
