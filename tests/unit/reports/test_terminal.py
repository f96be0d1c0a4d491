"""What a person sees: golden screens at 80 columns, piped, quiet and verbose."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.artifacts.checks import CheckReport
from builder.artifacts.record import BuildRecord
from builder.reports import summary
from builder.reports.bars import clock
from builder.reports.terminal import NORMAL, QUIET, VERBOSE, Terminal

GOLDEN = Path(__file__).parent / "golden"


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(summary, "mlflow_command", lambda: "mlflow")
    monkeypatch.chdir(tmp_path)


def _show(record: BuildRecord, stream: io.StringIO, verbosity: int) -> str:
    with Terminal(verbosity, stream) as terminal:
        terminal.begin("load")
        with terminal.bar("downloading weights", 100, unit="B") as advance:
            advance(100)
        terminal.end("load", 0.012, "mobilenet_v2 from torchvision, weights IMAGENET1K_V2, 14.2 MB", cached=True)
        terminal.detail("the weights were found in the store, so that nothing had to be downloaded for this build")
        terminal.warn(
            "the photographs are smaller than the input and were enlarged, which blurs what the model sees",
            code="B0001",
        )
        terminal.begin("convert")
        terminal.end("convert", 6.4321, "218 operators, iOS16, fp16", cached=False)
        terminal.summary(record)
    return stream.getvalue()


def _compare(name: str, text: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "review it, then UPDATE_GOLDEN=1 rewrites the golden files"


@pytest.mark.parametrize(("name", "verbosity"), [("quiet", QUIET), ("normal", NORMAL), ("verbose", VERBOSE)])
def test_piped_output_is_plain_lines(record: BuildRecord, name: str, verbosity: int) -> None:
    shown = _show(record, io.StringIO(), verbosity)

    assert "\x1b" not in shown
    _compare(f"piped_{name}", shown)


def test_terminal_of_80_columns_wraps_and_aligns(record: BuildRecord) -> None:
    shown = _show(record, FakeTerminal(), VERBOSE)

    # What was animated is erased again: clear-line, cursor and colour codes are taken away for the golden file.
    settled = re.sub(r"\x1b\[\?25[lh]", "", shown)
    settled = re.sub(r"(?m)^.*\x1b\[2K", "", settled)
    settled = re.sub(r"\x1b\[[0-9;]*m", "", settled)
    lines = [line for line in settled.splitlines() if "\r" not in line and not re.search(r"\d:\d\d", line)]
    assert max(map(len, lines)) <= 80
    _compare("terminal_80_columns", "\n".join(lines) + "\n")


def test_no_color_is_respected_on_a_terminal(record: BuildRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    shown = _show(record, FakeTerminal(), NORMAL)

    assert not re.search(r"\x1b\[[0-9;]*3[0-7]", shown)


def test_forced_colour_does_not_spoil_a_file(record: BuildRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")

    assert "\x1b" not in _show(record, io.StringIO(), NORMAL)


def test_broken_build_with_seeded_weights_is_loud_even_when_quiet(make_record: Callable[..., BuildRecord]) -> None:
    parity = CheckReport(
        name="parity", kind="parity", engine="runtime", values={"snr_db": 12.5}, limits={"snr_db": {"min": 30.0}},
        passed=False, samples=4,
    )  # fmt: skip
    good = make_record()
    folder = good.artifact.path.parents[2] / "broken" / "mobilenet_v2_fp16" / "seeded"
    record = make_record(
        status="broken", variant="seeded", seeded=True, checks=(*good.checks[:2], parity),
        artifact=type(good.artifact)(**{**vars(good.artifact), "path": folder / "mobilenet_v2_fp16.mlpackage"}),
    )  # fmt: skip

    quiet = _show(record, io.StringIO(), QUIET)

    assert "UNTRAINED WEIGHTS" in quiet
    assert "snr_db 12.5 (>= 30)" in quiet
    _compare("piped_broken_seeded", _show(record, io.StringIO(), NORMAL))


def test_a_failure_leaves_the_cursor_visible() -> None:
    stream = FakeTerminal()

    def fail() -> None:
        with Terminal(NORMAL, stream) as terminal:
            terminal.begin("convert")
            raise RuntimeError("conversion failed")

    with pytest.raises(RuntimeError):
        fail()

    shown = stream.getvalue()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_terminal_without_utf8_gets_plain_marks(record: BuildRecord) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")

    with Terminal(NORMAL, stream) as terminal:
        terminal.summary(record)
    stream.flush()

    assert b"+ parity" in raw.getvalue()


def test_mlflow_is_named_where_it_can_be_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mlflow").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.executable", str(tmp_path / "bin" / "python"))

    assert summary.mlflow_command() == "bin/mlflow"


def test_a_narrow_terminal_keeps_every_line_whole(record: BuildRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    # given a terminal of 40 columns, without colours
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")

    shown = _show(record, FakeTerminal(), VERBOSE)

    # then no line is wider but those that are copied, such as paths and commands
    settled = re.sub(r"\x1b\[\?25[lh]", "", shown)
    settled = re.sub(r"(?m)^.*\x1b\[2K", "", settled)
    settled = re.sub(r"\x1b\[[0-9;]*m", "", settled)
    lines = [line for line in settled.splitlines() if "\r" not in line and not re.search(r"\d:\d\d", line)]
    assert all(len(line) <= 40 or " " not in line.strip() or "mlflow ui" in line for line in lines)
    _compare("terminal_40_columns", "\n".join(lines) + "\n")


def test_long_work_says_how_long_it_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a stage that took 75 seconds the last time, and a bar that is half done after 20 seconds
    now = iter(range(0, 10_000, 20))
    monkeypatch.setattr("rich.progress.monotonic", lambda: float(next(now)), raising=False)
    stream = FakeTerminal()
    with Terminal(NORMAL, stream) as terminal:
        terminal.begin("convert", 75.0)
        assert terminal._bars is not None
        terminal._bars.refresh()
        terminal.end("convert", 80.0, "done", cached=False)
        with terminal.bar("parity", 100, unit="it") as advance:
            advance(10)
            advance(40)
            terminal._bars.refresh()

    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    assert "of about 1:15" in shown
    assert re.search(r"50/100 \d+:\d\d, about \d+:\d\d left", shown), shown


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0.4, 7, 75.2, 3723)] == ["0:00", "0:07", "1:15", "1:02:03"]
