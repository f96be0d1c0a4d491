"""The spinner of verbs that are not builds."""

from __future__ import annotations

import io
import re
import sys

import pytest

from builder.reports.working import working


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_it_says_how_long_it_took_the_last_time(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a terminal, and work that took 90 seconds
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    times = iter((10.0, 100.0, 200.0, 201.0))
    monkeypatch.setattr("builder.reports.working.time.perf_counter", lambda: next(times))
    shown = []
    for _ in range(2):
        stream = FakeTerminal()
        monkeypatch.setattr(sys, "stderr", stream)
        with working("exporting", "model", verbosity=0):
            pass
        shown.append(re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()))
    assert "exporting" in shown[0]
    assert "about" not in shown[0]
    assert "of about 1:30" in shown[1]


def test_nothing_is_shown_where_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, verbosity in ((io.StringIO(), 0), (FakeTerminal(), -1)):
        monkeypatch.setattr(sys, "stderr", stream)
        with working("exporting", "model", verbosity=verbosity):
            pass
        assert stream.getvalue() == ""
