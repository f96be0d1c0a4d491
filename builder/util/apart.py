"""Calls a function in a child process and returns its result here: for Python programs, whose process must not change.

A supervisor, which runs no code but ours, forks the child, waits for it and says what ended it (`builder.util.child`).
It is forked from this process where that has a single thread. A fork of one with several has only one of them, and
the locks of all: there, and where the system does not let a process fork that has loaded torch (macOS), the supervisor
is forked from a server, a fresh interpreter that is started once. Everything crosses a socket as pickles: both ends are
the caller's own code.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import io
import os
import pickle
import signal
import socket
import struct
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from builder.errors import BuilderError, SourceError, UnfitEnvironmentError
from builder.util.child import INTERRUPTED, PATIENCE, end_with, explained, supervised
from builder.util.telemetry import disable_telemetry

T = TypeVar("T")
Send = Callable[..., None]
"""Sends a message: the name of a handler in the caller's process, and its arguments."""

_HEAD = struct.Struct("<Q")
_NO_MEMORY_CODE = "B0707"


def call_apart(work: Callable[[Send], T], handlers: Mapping[str, Callable[..., object]]) -> T:
    """Return `work(send)`, run in a child process; what it sends is handled here, in order.

    `work` has to be a function of a module, or a partial of one, and its result has to be picklable. What it raises is
    raised here. Raises SourceError or UnfitEnvironmentError where the child ended without a result. Where a handler
    raises, or on Ctrl-C, the child is ended first, within two seconds.
    """
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            if _may_fork():
                start: _Supervisor = _forked(work, theirs)
            else:
                from builder.util.apart_server import started  # which starts a process

                start = started(work, theirs)
        try:
            result: T = _result(ours, handlers)
        except BaseException:
            ours.shutdown(socket.SHUT_RDWR)  # what it still wants to say, nobody reads
            start.stop()
            raise
        finally:
            start.wait()
        return result


@dataclass(frozen=True)
class _Supervisor:
    pid: int
    is_child: bool
    """Whether it is a child of this process, which then has to wait for it."""

    def stop(self) -> None:
        """Have it end its child, and wait for that."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGINT)
        until = time.monotonic() + PATIENCE + 1
        while self._lives() and time.monotonic() < until:
            time.sleep(0.01)

    def wait(self) -> None:
        """Wait for its end, so that nothing of it stays."""
        if self.is_child:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)

    def _lives(self) -> bool:
        if self.is_child:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _may_fork() -> bool:
    """Whether this process has a single thread; those of native libraries count, which only Linux lists."""
    try:
        return len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208 - their number is all
    except OSError:
        return False


def _forked(work: Callable[[Send], object], channel: socket.socket) -> _Supervisor:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            end_with(parent)
            _forget_parent()
            supervise(work, channel)
        os._exit(0)
    return _Supervisor(pid, is_child=True)


def _forget_parent() -> None:
    """Run nothing here that the caller's process has registered for itself: objects, exit functions, handlers."""
    gc.freeze()
    atexit._clear()
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # not in typeshed
    weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]  # as above
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def supervise(work: Callable[[Send], object], channel: socket.socket) -> None:
    """In the supervisor: run `work` in a child, and send what ended that where it sent no result."""
    ended = supervised(functools.partial(_work, work, channel))
    notes, code = ended.record.notes, ended.record.code
    if code is None:
        message, code = explained(ended)
    else:
        message = notes.pop() if code and notes else "the process ended without a result"
    with contextlib.suppress(OSError):
        send(channel, "text", "stderr", "".join(f"{line}\n" for line in notes))
        send(channel, "ended", code, message)


def _work(work: Callable[[Send], object], channel: socket.socket) -> int:
    """In the child: send the result, or what was raised."""
    sender = functools.partial(send, channel)
    sys.stdout, sys.stderr = _Stream(sender, "stdout", 1), _Stream(sender, "stderr", 2)
    try:
        sender("result", work(sender))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:
        sender("raised", *_picklable(error))
    return 0


def _picklable(error: BaseException) -> tuple[BaseException, str]:
    """An exception that another process can read, and where it was raised."""
    lines = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever code of a user put into it
        return RuntimeError(f"{type(error).__name__}: {error}"), lines
    return error, lines


class _Stream(io.TextIOBase):
    """What is printed in the child is written by the caller's own stream, which may be a page's."""

    def __init__(self, sender: Send, name: str, number: int) -> None:
        self._sender, self._name, self._number, self._pid = sender, name, number, os.getpid()

    def write(self, text: str) -> int:
        """Send it; a copy of the process that a user's code made sends nothing."""
        if text and os.getpid() == self._pid:
            self._sender("text", self._name, text)
        return len(text)

    def fileno(self) -> int:
        """The descriptor that native code writes to."""
        return self._number

    def writable(self) -> bool:
        """It is."""
        return True


def send(channel: socket.socket, name: str, *arguments: object) -> None:
    """Send a message."""
    content = pickle.dumps((name, arguments))
    channel.sendall(_HEAD.pack(len(content)) + content)


def _messages(channel: socket.socket) -> Iterator[tuple[str, tuple[Any, ...]]]:
    with channel.makefile("rb") as stream:
        while len(head := stream.read(_HEAD.size)) == _HEAD.size:
            yield pickle.loads(stream.read(*_HEAD.unpack(head)))


def _result(channel: socket.socket, handlers: Mapping[str, Callable[..., object]]) -> Any:
    """Handle messages until the supervisor says how the child ended, and return its result."""
    given: list[Any] = []
    raised: BaseException | None = None
    for name, arguments in _messages(channel):
        match name:
            case "result":
                given = [arguments[0]]
            case "raised":
                raised = arguments[0]
                if not isinstance(raised, BuilderError):
                    raised.add_note(f"in the process of the build:\n{arguments[1]}")
            case "text":
                getattr(sys, arguments[0]).write(arguments[1])
            case "ended":
                if raised is not None:
                    raise raised
                if given and arguments[0] == 0:
                    return given[0]
                _fail(*arguments)
            case _:
                handlers[name](*arguments)
    raise UnfitEnvironmentError("the process that runs the build was killed", code=_NO_MEMORY_CODE)


def _fail(code: int, message: str) -> NoReturn:
    """Raise what the supervisor says of a child that gave no result."""
    if code == INTERRUPTED:
        raise KeyboardInterrupt(message)
    number, _, text = message.removeprefix("error[").partition("]: ") if message.startswith("error[") else ("", "", "")
    kind: type[BuilderError] = UnfitEnvironmentError if number == _NO_MEMORY_CODE else SourceError
    raise kind(text or message, code=number or "B0336")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a call is made from, which the server's children take over."""

    folder: str
    environment: Mapping[str, str]
    path: tuple[str, ...]

    @classmethod
    def here(cls) -> Place:
        """Of this process; an empty entry of `sys.path` is the folder."""
        folder = str(Path.cwd())
        return cls(
            folder=folder,
            environment=dict(os.environ),
            path=tuple(entry or folder for entry in sys.path),
        )

    def enter(self) -> None:
        """Make it the place of this process."""
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        disable_telemetry()
        sys.path[:] = self.path
