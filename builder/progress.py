"""How stages tell what they do, without knowing whether anybody watches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol

Advance = Callable[[int], None]
"""Called with the number of bytes or items done since the last call."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What a measured value can still be; a missing side is open."""

    at_least: float | None = None
    at_most: float | None = None


Bounds = Callable[[], Mapping[str, Bound]]
"""Gives bounds by the measure's name (`artifact.bytes`, `checks.parity.output.snr_db`) to whoever wants them."""


BOUNDS_VARIABLE = "BUILDER_BOUNDS"
"""The environment variable by which a search names the file that takes the bounds of a build."""

WATCHED_VARIABLE = "BUILDER_WATCHED"
"""The environment variable by which `watch` names the file that a build tells its inputs."""


class Progress(Protocol):
    """What a stage may say while it works; the terminal, a log or nobody listens."""

    def begin(self, stage: str, expected: float | None = None) -> None:
        """A stage begins; long work may show a spinner until `end`, and that it may take `expected` seconds."""

    def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
        """A stage has ended, with one line of result."""

    def bar(self, description: str, total: int | None, *, unit: str) -> AbstractContextManager[Advance]:
        """Show a bar for long work of `total` items (`unit` "it") or bytes (`unit` "B"); None where unknown."""

    def warn(self, message: str, *, code: str) -> None:
        """Something that the user must see; `code` is its row in `builder.diagnostics.CODES`, such as `B0003`."""

    def detail(self, message: str) -> None:
        """Something for the log, and for the terminal with `-v`."""

    def bound(self, bounds: Bounds) -> None:
        """Tell a search values that are known by now, or that can no longer get better than this.

        `bounds` is called only where somebody listens.
        """


class Silent:
    """Tells nobody."""

    def begin(self, stage: str, expected: float | None = None) -> None:
        """Do nothing."""

    def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
        """Do nothing."""

    @contextmanager
    def bar(self, description: str, total: int | None, *, unit: str) -> Iterator[Advance]:  # noqa: ARG002 - protocol
        """Count for nobody."""
        yield lambda _: None

    def warn(self, message: str, *, code: str) -> None:
        """Do nothing."""

    def detail(self, message: str) -> None:
        """Do nothing."""

    def bound(self, bounds: Bounds) -> None:
        """Do nothing."""


class Sent:
    """Tells another process, where `Heard` listens."""

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._bars = 0

    def begin(self, stage: str, expected: float | None = None) -> None:
        """Send it."""
        self._send("begin", stage, expected)

    def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
        """Send it."""
        self._send("end", stage, seconds, result, cached)

    @contextmanager
    def bar(self, description: str, total: int | None, *, unit: str) -> Iterator[Advance]:
        """Send its begin, what is done, and its end."""
        self._bars += 1
        number = self._bars
        self._send("bar", number, description, total, unit)
        try:
            yield lambda done: self._send("advance", number, done)
        finally:
            self._send("bar_ends", number)

    def warn(self, message: str, *, code: str) -> None:
        """Send it."""
        self._send("warn", message, code)

    def detail(self, message: str) -> None:
        """Send it."""
        self._send("detail", message)

    def bound(self, bounds: Bounds) -> None:
        """Send the bounds."""
        self._send("bound", dict(bounds()))


class Heard:
    """Tells a listener what `Sent` tells in another process: a function for each name of a message."""

    def __init__(self, listener: Progress) -> None:
        self._listener = listener
        self._bars: dict[int, tuple[ExitStack, Advance]] = {}
        self.handlers: Mapping[str, Callable[..., object]] = {
            "begin": listener.begin,
            "end": lambda stage, seconds, result, cached: listener.end(stage, seconds, result, cached=cached),
            "bar": self._bar,
            "advance": lambda number, done: self._bars[number][1](done),
            "bar_ends": lambda number: self._bars.pop(number)[0].close(),
            "warn": lambda message, code: listener.warn(message, code=code),
            "detail": listener.detail,
            "bound": lambda bounds: listener.bound(lambda: bounds),
        }

    def _bar(self, number: int, description: str, total: int | None, unit: str) -> None:
        stack = ExitStack()
        self._bars[number] = stack, stack.enter_context(self._listener.bar(description, total, unit=unit))
