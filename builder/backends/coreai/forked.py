"""A fork of this process as the one that holds Core AI: it need not import torch again, and inherits the program.

A fork has one thread and the locks of all others, and Apple's library hangs in the fork of a process that has used it.
So only a process with a single thread that has not loaded it is forked (`can_fork`); others start a fresh one.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

_POLL = 0.01
"""Seconds between two looks at a process that shall end."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def can_fork() -> bool:
    """Whether a fork of this process can hold Core AI (Linux; Apple's frameworks on a Mac do not take a fork)."""
    _end_monitor()
    return sys.platform == "linux" and threading.active_count() == 1 and "coreai" not in sys.modules


def _end_monitor() -> None:
    """End the thread with which tqdm watches its bars, torch.export's too; the next bar starts another."""
    tqdm: Any = getattr(sys.modules.get("tqdm"), "tqdm", None)
    if tqdm is not None and tqdm.monitor is not None:
        tqdm.monitor.exit()
        tqdm.monitor = None


class Forked:
    """A running fork; has what `Child` asks of a `subprocess.Popen`."""

    def __init__(self, serve: Callable[[IO[bytes], IO[bytes]], None], errors: int) -> None:
        """Fork; there `serve` reads from the first stream and writes to the second, and stderr is `errors`."""
        question, ask = os.pipe()
        answer, reply = os.pipe()
        self._code: int | None = None
        with warnings.catch_warnings():
            # Python 3.12 counts the threads of torch's pool, which wait for work; the fork does not use that pool
            warnings.simplefilter("ignore", DeprecationWarning)
            self._pid = os.fork()
        if self._pid == 0:
            _serve_and_end(serve, question, reply, errors)
        os.close(question)
        os.close(reply)
        self.stdin: IO[bytes] | None = os.fdopen(ask, "wb")
        self.stdout: IO[bytes] | None = os.fdopen(answer, "rb")

    def poll(self) -> int | None:
        """The exit code, below 0 for a signal; None while it runs."""
        if self._code is None:
            self._reap(os.WNOHANG)
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """The exit code once it has ended. Raises subprocess.TimeoutExpired after `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while self._code is None:
            self._reap(0 if until is None else os.WNOHANG)
            if self._code is None and until is not None:
                if time.monotonic() > until:
                    raise subprocess.TimeoutExpired("Core AI", timeout or 0.0)
                time.sleep(_POLL)
        return self._code

    def kill(self) -> None:
        """End it now."""
        if self.poll() is None:
            os.kill(self._pid, signal.SIGKILL)

    def _reap(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self._pid, options)
        except ChildProcessError:  # somebody else has waited for it
            self._code = -signal.SIGKILL
            return
        if pid:
            self._code = os.waitstatus_to_exitcode(status)


def _serve_and_end(serve: Callable[[IO[bytes], IO[bytes]], None], question: int, reply: int, errors: int) -> None:
    """What the fork does: let go of what is its parent's, serve, and end without the parent's `atexit`."""
    code = 1
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        faulthandler.disable()
        _let_go({question, reply, errors})
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        sys.stdout = sys.stderr = open(  # noqa: SIM115 - lives as we do
            2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False
        )
        if (torch := sys.modules.get("torch")) is not None:
            torch.set_num_threads(1)  # a parallel region would wait for the threads of the parent's pool
        serve(os.fdopen(question, "rb"), os.fdopen(reply, "wb"))
        code = 0
    finally:
        os._exit(code)


def _let_go(used: set[int]) -> None:
    """Give every other descriptor nothing to hold: locks and ends of pipes are the parent's.

    The numbers stay taken, so that nothing which the parent opened closes a file of ours later.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for entry in list(Path("/proc/self/fd").iterdir()):
        number = int(entry.name)
        if number not in used and number != nothing:
            try:
                os.fstat(number)
            except OSError:  # the folder that was listed
                continue
            os.dup2(nothing, number)
