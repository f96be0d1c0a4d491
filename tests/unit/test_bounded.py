"""A call of a program from a file takes a bounded time of the processor, and the memory that is free."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable

import pytest

from builder.util.bounded import bounded
from builder.util.child import explained, supervised
from builder.util.memory import available


def in_child(work: Callable[[], int]) -> tuple[str, int]:
    """What ended a child that runs `work`, and its exit code."""
    ended = supervised(work)
    return ("", ended.record.code) if ended.record.code is not None else explained(ended)


def test_a_call_that_never_ends_is_ended() -> None:
    def work() -> int:
        with bounded("the TorchScript program", seconds=0.1):
            sum(1 for _ in iter(int, 1))  # native code: no signal is heard
        return 0

    message, code = in_child(work)
    assert code == 3
    assert "took more time of the processor" in message
    assert "while running the TorchScript program" in message


def test_what_doubles_ends_where_memory_does() -> None:
    def work() -> int:
        with bounded("a graph"), pytest.raises(MemoryError):
            bytearray(2 * available())
        bytearray(1 << 20)
        return 0

    assert in_child(work) == ("", 0)


def test_what_is_called_inside_or_afterwards_is_as_before() -> None:
    def work() -> int:
        before = resource.getrlimit(resource.RLIMIT_DATA)
        with bounded("one", seconds=0.05), bounded("two", seconds=60):
            time.sleep(0.3)  # takes no time of the processor
            inside = signal.getitimer(signal.ITIMER_PROF)[0]
        after = signal.getitimer(signal.ITIMER_PROF)[0]
        return 0 if (inside < 1, after, resource.getrlimit(resource.RLIMIT_DATA)) == (True, 0, before) else 1

    assert in_child(work) == ("", 0)


def test_only_a_child_is_bounded() -> None:
    with bounded("a graph", seconds=0.01):
        assert signal.getitimer(signal.ITIMER_PROF)[0] == 0
