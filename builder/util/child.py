"""Runs a command in a child process, so that nothing which a user's code or a model does can pass for its end.

The child tells what runs at the moment, what it built and its exit code in memory that both share. A child that ends
without its code was ended: by `os._exit`, a crash of native code, the kernel. The parent, which runs no code but ours,
reports that, and prints the artifact's path itself. It ends the child, with all that the child has started, within two
seconds after it was asked to stop, for native loops hear no signal.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import functools
import io
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from builder.util.process_tree import kill_tree
from builder.util.room import Room, temporary_room
from builder.util.shared_record import SharedRecord
from builder.util.text import visible

PATIENCE = 1.5
"""Seconds that a command has to clean up after it was asked to stop, and after it has ended."""

INTERRUPTED = 130
_CRASHED, _NO_MEMORY = 3, 7
_PARENT_DIES = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

OUT_OF_TIME = signal.SIGPROF
"""What ends a process whose program computes for too long (`util.bounded`)."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Here:
    """What this process knows of being a child."""

    record: SharedRecord | None = None
    pid = 0
    is_interrupted = False


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Let the parent know what runs, in case that it ends the process."""
    record = _Here.record
    if record is None:
        yield
        return
    before = record.doing
    record.doing = what[:1000]
    try:
        yield
    finally:
        record.doing = before


def warn(message: str, *, code: str) -> None:
    """Have the parent print a warning in the end; without a parent it is printed at once."""
    line = f"warning[{code}]: {visible(message)}"
    if _Here.record is None:
        print(line, file=sys.stderr)
    else:
        _Here.record.note(line.replace("\n", " "))


def print_artifact(path: str) -> None:
    """Print the path of the artifact of a build that has succeeded; in a child the parent does, after a look at it."""
    if _Here.record is None:
        print(path)
    else:
        _Here.record.artifact = path


def was_interrupted() -> bool | None:
    """Whether this child was asked to stop; None where this process is not a child."""
    return None if _Here.record is None else _Here.is_interrupted


def is_child() -> bool:
    """Whether a parent waits for this process, and will report what ended it."""
    return _Here.record is not None and os.getpid() == _Here.pid


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended."""

    status: int
    """Its wait status."""
    record: SharedRecord
    stopped: bool
    """Whether it was asked to stop."""


def run_in_child(work: Callable[[], int]) -> int:
    """Return the exit code of `work`, run in a child; where it ended without one, what ended it is on stderr."""
    _fill_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    ended = supervised(work)
    for line in ended.record.notes:
        print(line, file=sys.stderr)
    if ended.record.code is None:
        message, code = explained(ended)
        print(visible(message) if code != INTERRUPTED else f"\n{message}", file=sys.stderr)
        return code
    is_built = ended.record.code == 0 and ended.record.artifact
    return _artifact_printed(ended.record.artifact) if is_built else ended.record.code


def supervised(work: Callable[[], int]) -> Ended:
    """Run `work` in a child and wait for it; a signal to stop is passed on, and then kills it after `PATIENCE`.

    What the child writes to the folder of temporary files is removed in the end.
    """
    with temporary_room() as room:
        return _supervised(work, room)


def _supervised(work: Callable[[], int], room: Room | None) -> Ended:
    record = SharedRecord()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _be_child(work, record, parent, room)
    stopped: list[float] = []

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.append(time.monotonic())
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGINT)

    handlers = {number: signal.getsignal(number) for number in _STOPS}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:  # as nohup asks for
            signal.signal(number, stop)
    status = _wait(child, stopped, record)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    return Ended(status=status, record=record, stopped=bool(stopped))


def _fill_closed_streams() -> None:
    """Open nothing in the place of a stream that the caller closed (`>&-`), so that no other file gets its number."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def _be_child(work: Callable[[], int], record: SharedRecord, parent: int, room: Room | None) -> None:
    """Run `work` and end; nothing of the parent's is run after it."""
    code = 1
    try:
        end_with(parent)
        _Here.record, _Here.pid = record, os.getpid()
        if room is not None:
            room.enter()
        _keep_stdout()
        with contextlib.suppress(ValueError, OSError, AttributeError, RuntimeError):  # where there is no stderr
            faulthandler.enable()
        signal.signal(signal.SIGINT, _interrupt_once())
        code = work()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OSError:  # not even an error can be printed
        record.note("code of the model closed files of the process that are not its own")
        code = _CRASHED
    finally:
        for number in _STOPS:  # what is left to do removes temporary files; the parent allows it `PATIENCE` seconds
            signal.signal(number, signal.SIG_IGN)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        if os.getpid() == _Here.pid:  # a copy of a user's making decides nothing
            record.code = code
            atexit._run_exitfuncs()  # temporary folders of models are removed
        os._exit(code)


def _keep_stdout() -> None:
    """Give `sys.stdout` a descriptor of its own, and what native code or a user's writes to the first one to stderr."""
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return
    try:
        own = os.dup(1)
        os.dup2(2, 1)
    except OSError:  # there are no more descriptors: what is written there stays in the output
        return
    sys.stdout = os.fdopen(own, "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)


def _interrupt_once() -> Callable[[int, FrameType | None], None]:
    """A handler that raises KeyboardInterrupt; a terminal's Ctrl-C comes twice, from it and from the parent."""
    last = [-PATIENCE]

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - last[0] > 1.0:
            last[0] = now
            _Here.is_interrupted = True
            raise KeyboardInterrupt

    return interrupt


def ending_with_us() -> Callable[[], None]:
    """A `preexec_fn` of a subprocess that ends where this process is killed, to be called in its first thread."""
    return functools.partial(end_with, os.getpid())


def end_with(parent: int) -> None:
    """End this process where its parent, or the thread of it that has started this one, is killed (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DIES, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(INTERRUPTED)


def _wait(child: int, stopped: list[float], record: SharedRecord) -> int:
    """The wait status of the child, which is killed where it was asked to stop, or has its code, and does not end."""
    pause = 0.005
    with _sleep_until_ended(child) as sleep:
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return status
            if record.code is not None and not stopped:  # what is registered with atexit still runs
                stopped.append(time.monotonic())
            if stopped and time.monotonic() - stopped[0] > PATIENCE:
                kill_tree(child)
            sleep(pause)
            pause = 0.005 if stopped else min(0.05, pause * 1.3)


@contextmanager
def _sleep_until_ended(child: int) -> Iterator[Callable[[float], object]]:
    """What sleeps for some seconds, and less where the child ends and the system can wait for both (Linux 5.3)."""
    try:
        ended = os.pidfd_open(child)
    except (AttributeError, OSError):
        yield time.sleep
        return
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    try:
        yield lambda seconds: poll.poll(seconds * 1000)
    finally:
        os.close(ended)


def _artifact_printed(path: str) -> int:
    """Print the path of an artifact that is there, and return the exit code of that."""
    if not os.path.lexists(path):
        print(visible(f"error[B0336]: the artifact {path} is not there any more"), file=sys.stderr)
        return _CRASHED
    try:
        print(path, flush=True)
    except BrokenPipeError:  # the reader of stdout is gone; Python must not try to flush it again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def explained(ended: Ended) -> tuple[str, int]:
    """What ended a child that did not end by itself, and the exit code for that."""
    if ended.stopped:
        return "interrupted: nothing was replaced", INTERRUPTED
    code = os.waitstatus_to_exitcode(ended.status)
    during = f", {ended.record.doing}" if ended.record.doing else ""
    if code >= 0:
        return f"error[B0336]: the process was ended (`os._exit({code})`){during}; nothing was built", _CRASHED
    name = _name(-code)
    if name == "SIGKILL":
        what = f"error[B0707]: the process was ended by {name}: most likely memory ran out"
        return f"{what}{during}; nothing was replaced", _NO_MEMORY
    if name == OUT_OF_TIME.name:
        what = "error[B0336]: the program took more time of the processor than a call of it may take"
        return f"{what}{during}; nothing was replaced", _CRASHED
    return f"error[B0336]: the process was ended by {name}{during}; nothing was replaced", _CRASHED


def _name(number: int) -> Any:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
