"""`build.log`: all that a build did and all that the libraries said, each line with its time."""

from __future__ import annotations

import io
import logging
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TextIO

from builder.progress import Advance, Bounds, Progress
from builder.reports.plain import duration, size
from builder.util.text import visible

FILE_NAME = "build.log"


class BuildLog:
    """A Progress that writes lines to a file; `close` it, or use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self._stream: TextIO = path.open("w", encoding="utf-8", buffering=1)
        self._write_lock = threading.Lock()

    def begin(self, stage: str, expected: float | None = None) -> None:  # noqa: ARG002 - protocol
        """Write that a stage begins."""
        self._line("stage", f"{stage} begins")

    def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
        """Write how long a stage took and what came out."""
        how = "from the store" if cached else "done"
        self._line("stage", f"{stage} {how} in {duration(seconds)}: {result}")

    @contextmanager
    def bar(self, description: str, total: int | None, *, unit: str) -> Iterator[Advance]:
        """Write one line when the long work has ended, however it ended."""
        started = time.monotonic()
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count

        def amount(count: int) -> str:
            return size(count) if unit == "B" else f"{count} {unit}"

        try:
            yield advance
        finally:
            of = "" if total is None else f" of {amount(total)}"
            self._line("work", f"{description}: {amount(done)}{of} in {duration(time.monotonic() - started)}")

    def warn(self, message: str, *, code: str) -> None:
        """Write something that the user was shown."""
        self._line("warning", f"[{code}] {message}")

    def detail(self, message: str) -> None:
        """Write something that the user sees only with `-v`."""
        self._line("detail", message)

    def bound(self, bounds: Bounds) -> None:
        """Write nothing: the details of the checks are written when they are final."""

    def noise(self, origin: str, message: str) -> None:
        """Write something that a library said."""
        self._line(origin, message)

    def close(self) -> None:
        """Close the file; what comes afterwards is dropped."""
        with self._write_lock:
            self._stream.close()

    def __enter__(self) -> BuildLog:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _line(self, origin: str, message: str) -> None:
        stamp = datetime.now(UTC).strftime("%H:%M:%S.%f")[:-3]
        lines = [visible(line) for line in message.splitlines()] or [""]
        text = f"{stamp} {visible(origin):<12} {lines[0]}\n" + "".join(f"{'':26}{line}\n" for line in lines[1:])
        with self._write_lock:
            if not self._stream.closed:
                self._stream.write(text)


class Tee:
    """A Progress that tells several others the same."""

    def __init__(self, *listeners: Progress) -> None:
        self._listeners = listeners

    def begin(self, stage: str, expected: float | None = None) -> None:
        """Tell all that a stage begins."""
        for listener in self._listeners:
            listener.begin(stage, expected)

    def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
        """Tell all that a stage has ended."""
        for listener in self._listeners:
            listener.end(stage, seconds, result, cached=cached)

    @contextmanager
    def bar(self, description: str, total: int | None, *, unit: str) -> Iterator[Advance]:
        """Show a bar with each."""
        with ExitStack() as stack:
            bars = [stack.enter_context(listener.bar(description, total, unit=unit)) for listener in self._listeners]

            def advance(count: int) -> None:
                for bar in bars:
                    bar(count)

            yield advance

    def warn(self, message: str, *, code: str) -> None:
        """Warn all."""
        for listener in self._listeners:
            listener.warn(message, code=code)

    def detail(self, message: str) -> None:
        """Give all the detail."""
        for listener in self._listeners:
            listener.detail(message)

    def bound(self, bounds: Bounds) -> None:
        """Offer the bounds to all."""
        for listener in self._listeners:
            listener.bound(bounds)


class Noise(Protocol):
    """Where the noise of libraries goes."""

    def noise(self, origin: str, message: str) -> None:
        """Take a line that `origin` said."""


@contextmanager
def captured_noise(log: Noise) -> Iterator[None]:
    """Send to `log` what libraries say by logging, by warnings, and by writing to stdout or stderr.

    Our own messages are not lost: the Terminal holds the stream that it was given. User code that prints
    would otherwise spoil stdout, whose last line is the artifact's path. All is restored in the end.
    """
    out, err = _Lines(log, "stdout"), _Lines(log, "stderr")
    with warnings.catch_warnings(), _loggers_to(log), redirect_stdout(out), redirect_stderr(err):
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, category, filename, line, *_: log.noise(
            "warning", f"{category.__name__}: {message} ({filename}:{line})"
        )
        try:
            yield
        finally:
            out.finish()
            err.finish()


class _Handler(logging.Handler):
    """Passes log records on to the build log."""

    def __init__(self, log: Noise) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.INFO or record.name.startswith("builder."):
            self._log.noise(record.name.partition(".")[0], f"{record.levelname}: {self.format(record)}")


@contextmanager
def _loggers_to(log: Noise) -> Iterator[None]:
    """Replace the handlers of every logger that has some by one, at the root, that writes to `log`."""
    known = [logger for logger in logging.root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    loggers = [logging.getLogger(), *(logger for logger in known if logger.handlers)]
    before = [(logger, list(logger.handlers), logger.propagate) for logger in loggers]
    ours = logging.getLogger("builder")
    level = ours.level
    try:
        ours.setLevel(logging.DEBUG)
        for logger in loggers:
            logger.handlers = [_Handler(log)] if logger is loggers[0] else []
            logger.propagate = True
        yield
    finally:
        ours.setLevel(level)
        for logger, handlers, propagate in before:
            logger.handlers = handlers
            logger.propagate = propagate


class _Lines(io.TextIOBase):
    """A text stream that logs complete lines; of a line redrawn with carriage returns, the last state."""

    def __init__(self, log: Noise, origin: str) -> None:
        super().__init__()
        self._log = log
        self._origin = origin
        self._pending = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # a plain attribute in typeshed, a property in io
        """Say UTF-8, which tqdm asks for before it draws."""
        return "utf-8"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def write(self, text: str) -> int:
        *complete, self._pending = (self._pending + text).split("\n")
        for line in complete:
            self._say(line)
        if "\r" in self._pending:
            self._pending = "\r" + self._pending.rstrip("\r").rpartition("\r")[2]
        return len(text)

    def finish(self) -> None:
        self._say(self._pending)
        self._pending = ""

    def _say(self, line: str) -> None:
        shown = line.rstrip("\r").rpartition("\r")[2].rstrip()
        if shown:
            self._log.noise(self._origin, shown)
