"""Runs a command in a child process, so that nothing which a user's code or a model does can pass for its end.

The child says on a pipe what runs at the moment and, last, its exit code. A child that ends without its code was ended:
by `os._exit`, a crash of native code, the kernel. The parent, which runs no code but ours, tells so. It ends the child
two seconds after it was told to stop, for native loops hear no signal.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PATIENCE = 1.5
"""Seconds that a command has to clean up after it was told to stop."""

INTERRUPTED = 130
_CRASHED, _NO_MEMORY = 3, 7
_PARENT_DIES = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_pipe: list[int] = []


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Let the parent know what runs, in case that it ends the process."""
    _say(f"doing {what}")
    try:
        yield
    finally:
        _say("doing ")


def run_in_child(work: Callable[[], int]) -> int:
    """Return the exit code of `work`, run in a child; where it ended without one, what ended it is on stderr."""
    _fill_closed_streams()
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _be_child(work, writing, parent)
    os.close(writing)
    stopped: list[float] = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.append(time.monotonic())
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGINT)

    for number in _STOPS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, stop)
    status = _wait(child, stopped)
    text = _read(reading)
    code = next((line[4:] for line in reversed(text) if line.startswith("end ")), None)
    if code is not None:
        return int(code)
    return _told(status, text, stopped=bool(stopped))


def _fill_closed_streams() -> None:
    """Open nothing in the place of a stream that the caller closed (`>&-`), so that no pipe gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _be_child(work: Callable[[], int], pipe: int, parent: int) -> None:
    """Run `work` and end; nothing of the parent's is run after it."""
    code = 1
    try:
        _die_with(parent)
        _pipe.append(pipe)
        os.set_inheritable(pipe, False)
        with contextlib.suppress(ValueError, OSError, AttributeError, RuntimeError):  # where there is no stderr
            faulthandler.enable()
        signal.signal(signal.SIGINT, _interrupt_once())
        code = work()
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        _say(f"end {code}")
        atexit._run_exitfuncs()  # temporary folders of models are removed; whatever else is run decides nothing now
        os._exit(code)


def _interrupt_once() -> Callable[[int, FrameType | None], None]:
    """A handler that raises KeyboardInterrupt; a terminal's Ctrl-C comes twice, from it and from the parent."""
    last = [-PATIENCE]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - last[0] > 1.0:
            last[0] = now
            raise KeyboardInterrupt

    return interrupt


def _die_with(parent: int) -> None:
    """End this process where its parent is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(INTERRUPTED)


def _say(line: str) -> None:
    if _pipe:
        with contextlib.suppress(OSError):  # the parent is gone, or far behind
            os.write(_pipe[0], f"{line}\n".encode("utf-8", "replace")[:500])


def _wait(child: int, stopped: list[float]) -> int:
    """The wait status of the child, which is killed where it does not stop in time."""
    pause = 0.005
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        if stopped and time.monotonic() - stopped[0] > PATIENCE:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(pause)
        pause = min(0.05, pause * 1.3)


def _read(pipe: int) -> list[str]:
    os.set_blocking(pipe, False)  # a grandchild may hold the other end
    content = b""
    with contextlib.suppress(BlockingIOError):
        while block := os.read(pipe, 1 << 16):
            content += block
    os.close(pipe)
    return content.decode("utf-8", "replace").splitlines()


def _told(status: int, text: list[str], *, stopped: bool) -> int:
    """Say what ended a child that did not end by itself, and return the exit code for that."""
    if stopped:
        print("\ninterrupted: nothing was replaced", file=sys.stderr)
        return INTERRUPTED
    code = os.waitstatus_to_exitcode(status)
    what = next((line[6:] for line in reversed(text) if line.startswith("doing ")), "")
    during = f", {what}" if what else ""
    if code >= 0:
        print(f"error[B0336]: the process was ended (`os._exit({code})`){during}; nothing was built", file=sys.stderr)
        return _CRASHED
    name = _name(-code)
    if name == "SIGKILL":
        what, code = f"error[B0707]: the process was ended by {name}: most likely memory ran out", _NO_MEMORY
    else:
        what, code = f"error[B0336]: the process was ended by {name}", _CRASHED
    print(f"{what}{during}; nothing was replaced", file=sys.stderr)
    return code


def _name(number: int) -> Any:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
