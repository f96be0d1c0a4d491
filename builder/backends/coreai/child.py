"""A process of its own that holds Core AI: started when first needed, with a time limit for each call."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import pickle
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from builder.backends.coreai.forked import Forked, can_fork
from builder.errors import BuilderError, ConversionError

LENGTH = struct.Struct("<Q")
"""In front of each message: its bytes."""

_PATIENCE = 1.0
"""Seconds that the process has to end by itself: less than the command that started it has."""
_LOG = logging.getLogger("builder.coreai")
_LOCK = threading.Lock()
_CHILDREN: dict[int, Child] = {}
"""By the process that started it: a fork does not go on with its parent's."""


class ChildError(ConversionError):
    """What was called in the child failed, ended the process or took too long; `kind` is the type of what it raised."""

    def __init__(
        self, message: str, *, code: str, hint: str | None = None, key: str | None = None, kind: str = ""
    ) -> None:
        super().__init__(message, code=code, hint=hint, key=key)
        self.kind = kind


def call(function: str, *arguments: object, seconds: float, **named: object) -> Any:
    """Call `module:function` of this package in the child; arguments and result must be picklable.

    Raises the BuilderError that it raises, and ChildError where it raises something else, where the process ends
    (Apple's library aborts on damaged files), and where it takes more than `seconds`.
    """
    with _LOCK:
        child = _CHILDREN.get(os.getpid())
        if child is None or not child.is_alive():
            child = _CHILDREN[os.getpid()] = Child()
        return child.call(function, arguments, named, seconds)


def inherit(value: Any) -> bool:
    """Let the process that serves the next calls hold `value`, which `inherited` gives there, without a copy.

    False where this process cannot be forked: then the value has to travel as a file. It replaces a process that runs.
    """
    if not can_fork():
        return False
    end()
    with _LOCK:
        _Held.value = value
        try:
            _CHILDREN[os.getpid()] = Child()
        finally:
            _Held.value = None
    return True


def inherited() -> Any:
    """In the child: what it was given by `inherit`, once."""
    value, _Held.value = _Held.value, None
    return value


def end() -> None:
    """End the child of this process, where there is one; the next call starts another."""
    with _LOCK:
        child = _CHILDREN.pop(os.getpid(), None)
    if child is not None:
        child.close()


class _Held:
    """What a fork takes along."""

    value: Any = None


class Child:
    """A running process of `worker.py`, a fork where that can be, and the pipes to it."""

    def __init__(self) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile(prefix="builder-coreai-")  # noqa: SIM115 - lives as we do
        self._owner = os.getpid()
        self._process = _forked(self._errors) if can_fork() else _spawned(self._errors)
        atexit.register(self.close)

    def is_alive(self) -> bool:
        """Whether it can be called."""
        return self._process.poll() is None

    def close(self) -> None:
        """Let the process end by itself, which removes its temporary files; one that does not is ended."""
        if os.getpid() == self._owner and self.is_alive() and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_PATIENCE)
        self.end()

    def end(self) -> None:
        """End the process now; a fork of its owner leaves it alone."""
        if os.getpid() != self._owner:
            return
        if self.is_alive():
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def call(self, function: str, arguments: tuple[object, ...], named: dict[str, object], seconds: float) -> Any:
        """Send the call and wait for its result, at most `seconds`."""
        before = self._errors.seek(0, os.SEEK_END)
        what = function.partition(":")[2].replace("_", " ")
        try:
            self._send(pickle.dumps((function, arguments, named), protocol=5))
            verdict, value = pickle.loads(self._receive(time.monotonic() + seconds))
        except TimeoutError:
            self.end()
            raise ChildError(
                f"Core AI did not end within {seconds:g} s ({what})",
                code="B0401",
                hint="the process was stopped; nothing was written",
            ) from None
        except (EOFError, BrokenPipeError) as error:
            why = self._why_ended(before)
            self.end()
            raise ChildError(f"Core AI ended its process ({what}): {why}", code="B0401") from error
        except BaseException:
            self.end()  # half a message may be under way
            raise
        self._log(before)
        if verdict == "returned":
            return value
        if isinstance(value, BuilderError):
            raise value
        kind, message = value
        raise ChildError(message, code="B0401", kind=kind)

    def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(LENGTH.pack(len(message)) + message)
        self._process.stdin.flush()

    def _receive(self, until: float) -> bytes:
        (length,) = LENGTH.unpack(self._read(LENGTH.size, until))
        return self._read(length, until)

    def _read(self, count: int, until: float) -> bytes:
        assert self._process.stdout is not None
        number, parts = self._process.stdout.fileno(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(number, selectors.EVENT_READ)
            while len(parts) < count:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise TimeoutError
                part = os.read(number, min(count - len(parts), 1 << 20))
                if not part:
                    raise EOFError
                parts += part
        return bytes(parts)

    def _why_ended(self, before: int) -> str:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        lines = self._printed(before)
        return f"{how}, {lines[-1]}" if lines else how

    def _printed(self, before: int) -> list[str]:
        """What it wrote to stderr since then, without what it always writes."""
        self._errors.seek(before)
        lines = self._errors.read().decode(errors="replace").splitlines()
        return [line.strip() for line in lines if line.strip() and "ODIE [default]" not in line]

    def _log(self, before: int) -> None:
        for line in self._printed(before):
            _LOG.debug("%s", line)


def _forked(errors: IO[bytes]) -> Forked:
    from builder.backends.coreai.worker import serve

    return Forked(serve, errors.fileno())


def _spawned(errors: IO[bytes]) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[3])
    path = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "builder.backends.coreai.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
