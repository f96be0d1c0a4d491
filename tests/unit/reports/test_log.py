"""build.log: readable lines, and the noise of libraries inside it instead of on the terminal."""

from __future__ import annotations

import io
import logging
import re
import sys
import warnings
from pathlib import Path

import pytest

from builder.reports.files import build_logged
from builder.reports.log import BuildLog, Tee, captured_noise
from builder.reports.terminal import NORMAL, Terminal

STAMP = re.compile(r"^\d\d:\d\d:\d\d\.\d{3} ", re.MULTILINE)


def _without_times(path: Path) -> str:
    return STAMP.sub("", path.read_text(encoding="utf-8"))


def test_log_has_one_timed_line_for_each_event(tmp_path: Path) -> None:
    path = tmp_path / "build.log"

    with BuildLog(path) as log:
        log.begin("load")
        with log.bar("downloading", 2000, unit="B") as advance:
            advance(1500)
        log.end("load", 1.5, "mobilenet_v2", cached=False)
        log.end("convert", 0.0, "218 operators", cached=True)
        log.warn("two\nlines", code="B0001")

    assert len(STAMP.findall(path.read_text())) == 5
    assert _without_times(path).splitlines() == [
        "stage        load begins",
        "work         downloading: 1.5 kB of 2.0 kB in 0.00 s",
        "stage        load done in 1.50 s: mobilenet_v2",
        "stage        convert from the store in 0.00 s: 218 operators",
        "warning      [B0001] two",
        " " * 26 + "lines",
    ]


def test_tee_tells_all(tmp_path: Path) -> None:
    stream = io.StringIO()
    with BuildLog(tmp_path / "build.log") as log:
        tee = Tee(Terminal(NORMAL, stream), log)
        tee.begin("seal")
        with tee.bar("hashing", 3, unit="it") as advance:
            advance(3)
        tee.end("seal", 0.1, "6.9 MB", cached=False)
        tee.detail("only in the log")
        tee.warn("everywhere", code="B0001")

    assert "hashing: 3 it of 3 it" in (tmp_path / "build.log").read_text()
    assert "only in the log" not in stream.getvalue()
    assert "everywhere" in stream.getvalue()


def test_noise_goes_to_the_log_and_our_messages_to_the_person(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = io.StringIO()
    terminal = Terminal(NORMAL, ours)

    with BuildLog(tmp_path / "build.log") as log, captured_noise(log):
        print("a user's factory prints")
        sys.stderr.write("\rpasses:   0%|   | 0/2")
        sys.stderr.write("\rpasses:  50%|#  | 1/2")
        sys.stderr.write("\rpasses: 100%|###| 2/2\n")
        logging.getLogger("coremltools").warning("torch version %s has not been tested", "2.13")
        logging.getLogger("somebody.else").error("from another library")
        warnings.warn("deprecated by a library", DeprecationWarning, stacklevel=1)
        terminal.end("convert", 1.0, "done", cached=False)

    text = _without_times(tmp_path / "build.log")
    assert "stdout       a user's factory prints" in text
    assert "stderr       passes: 100%|###| 2/2" in text
    assert "50%" not in text
    assert "coremltools  WARNING: torch version 2.13 has not been tested" in text
    assert "somebody     ERROR: from another library" in text
    assert "DeprecationWarning: deprecated by a library" in text
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert "convert" in ours.getvalue()


def test_noise_is_restored_after_an_error(tmp_path: Path) -> None:
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    streams = sys.stdout, sys.stderr

    def fail() -> None:
        with BuildLog(tmp_path / "build.log") as log, captured_noise(log):
            sys.stderr.write("no newline at the end")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        fail()

    assert (sys.stdout, sys.stderr) == streams
    assert root.handlers == before
    assert "no newline at the end" in (tmp_path / "build.log").read_text()


def test_logged_build_tells_the_person_and_the_log(tmp_path: Path) -> None:
    stream = io.StringIO()

    with build_logged(tmp_path, Terminal(NORMAL, stream)) as progress:
        print("noise")
        progress.end("seal", 0.1, "6.9 MB", cached=False)

    assert "6.9 MB" in stream.getvalue()
    assert "noise" not in stream.getvalue()
    assert "6.9 MB" in (tmp_path / "build.log").read_text()
    assert "noise" in (tmp_path / "build.log").read_text()
