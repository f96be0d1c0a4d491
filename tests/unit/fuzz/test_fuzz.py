"""Faults that are planted are found by the fuzzer: what finds none of them would find nothing at all."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import worker
from tests.fuzz.targets import Target
from tests.fuzz.worker import fuzz

FAULTS: dict[str, tuple[Callable[[], int], str]] = {
    "a bug": (lambda: 1, "exit code 1"),
    "a traceback": (lambda: os.write(1, b"Traceback (most recent call last)") and 3, "a traceback"),
    "a colour": (lambda: os.write(1, b"\x1b[31m") and 0, "control characters"),
    "silence": (lambda: 3, "without a word"),
    "a file outside": (lambda: Path("../more").touch() or 0, "outside of the project"),
    "a crash": (lambda: os.kill(os.getpid(), signal.SIGKILL) or 0, "ended its process"),
}


def target(name: str) -> Target:
    def write(_: Path) -> Sequence[Sequence[str]]:
        return [["list"]]

    return Target(name=name, count=1, examples=lambda: st.just(write))


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.cli.main.run", lambda _: FAULTS[name][0]())
    total = fuzz(target("planted"), 1, 1, tmp_path)
    assert len(total.faults) == 1
    assert FAULTS[name][1] in total.faults[0]


def test_a_command_that_does_not_end_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "MOST_SECONDS", 0.5)
    monkeypatch.setattr("builder.cli.main.run", lambda _: sys.stdin and __import__("time").sleep(60))
    total = fuzz(target("planted"), 1, 1, tmp_path)
    assert "hangs" in total.faults[0]


def test_a_good_command_is_not_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.cli.main.run", lambda _: 0)
    total = fuzz(target("planted"), 1, 1, tmp_path)
    assert (total.examples, total.faults, dict(total.codes)) == (1, [], {"0": 1})
