"""What recipes, files and models say is shown as text: nothing in it reaches the terminal or a spreadsheet as more."""

from __future__ import annotations

import csv
import io
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from rich.text import Text

from builder.cli.main import run
from builder.diagnostics.render import render
from builder.errors import BuilderError, Diagnostic, SourceSpan
from builder.reports.console import TextConsole
from builder.reports.log import BuildLog
from builder.reports.terminal import Terminal
from builder.util.text import csv_cell, visible

HOSTILE = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\t\n"]
"""C0, DEL and C1 without what orders text."""
BIDIRECTIONAL = list("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
TEXTS = st.text(st.sampled_from([*HOSTILE, *BIDIRECTIONAL, *"ab 中é\n\t"]) | st.characters(), max_size=30)
ATTACK = "a\x1b[2J\x9b1;31m\u202eb\u2066c\x07\x08\r"


def _is_clean(text: str) -> bool:
    """By Unicode's own data: no control character but line feeds and tabulators, nothing that sets a direction."""
    return all(
        c in "\t\n"
        or (
            unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp")
            and unicodedata.bidirectional(c) not in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
            and c not in "\u061c\u200e\u200f"
        )
        for c in text
    )


@given(TEXTS)
def test_what_is_shown_has_no_control_characters(text: str) -> None:
    assert _is_clean(visible(text))
    visible(text).encode("utf-8")  # no halves of surrogate pairs
    assert visible(visible(text)) == visible(text)
    if _is_clean(text):
        assert visible(text) == text


@given(st.lists(TEXTS | st.integers() | st.floats(allow_nan=False), min_size=1, max_size=4))
def test_a_cell_is_a_number_or_no_formula(values: list[object]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow([csv_cell(value) for value in values])
    (row,) = csv.reader(io.StringIO(stream.getvalue(), newline=""))
    for value, cell in zip(values, row, strict=True):
        if cell.startswith(("=", "+", "-", "@", "\t", "\r")):
            float(cell)  # a number
        if not isinstance(value, str):
            assert type(value)(cell) == value


@pytest.mark.parametrize("number", ["-1", "+2.5", "-1e-3", "-inf"])
def test_texts_of_numbers_stay(number: str) -> None:
    assert csv_cell(number) == number


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\t=1", "-1 "])
def test_formulas_are_quoted(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@given(TEXTS)
def test_the_console_shows_texts_alone(text: str) -> None:
    stream = io.StringIO()
    TextConsole(file=stream, highlight=False, markup=False, emoji=False).print(Text(text), soft_wrap=True)
    assert _is_clean(stream.getvalue())


def test_styles_and_bars_still_work_on_a_terminal() -> None:
    stream = io.StringIO()
    console = TextConsole(file=stream, force_terminal=True, color_system="standard", legacy_windows=False, width=80)
    with Progress(console=console) as bars:
        bars.add_task(ATTACK, total=1)
    console.print(Text(ATTACK, style="bold"))
    shown = stream.getvalue()
    assert "\x1b[1m" in shown  # bold
    assert "\x1b[2K" in shown  # a line that is drawn again
    for piece in ("\x1b[2J", "\x9b", "\u202e", "\u2066", "\x07"):
        assert piece not in shown


def test_the_build_on_the_terminal_and_in_the_log(tmp_path: Path) -> None:
    stream = io.StringIO()
    with Terminal(1, stream) as terminal, BuildLog(tmp_path / "build.log") as log:
        for listener in (terminal, log):
            listener.end("load", 1.0, ATTACK, cached=False)
            listener.warn(ATTACK, code="B0001")
            listener.detail(ATTACK)
        log.noise(ATTACK, ATTACK)
    assert _is_clean(stream.getvalue())
    assert _is_clean((tmp_path / "build.log").read_text(encoding="utf-8"))
    assert "\\x1b[2J" in stream.getvalue()


@given(TEXTS, st.integers(1, 40), st.integers(1, 40))
def test_an_excerpt_marks_what_it_marked_before_the_escapes(text: str, column: int, length: int) -> None:
    line = text.replace("\n", " ").replace("\t", " ")
    span = SourceSpan(file=Path("x.yaml"), line=1, column=min(column, len(line) + 1), length=length, text=line)
    shown = visible(render(Diagnostic(code="B0211", message="m", span=span)))
    assert _is_clean(shown)
    if line.strip():
        _, excerpt, carets = shown.split("\n")
        start = carets.index("^")
        marked = line[span.column - 1 :][: span.length]
        if marked:
            assert excerpt[start:].startswith(visible(marked))
            assert carets[start:] == "^" * len(visible(marked))


def test_errors_and_lists_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").write_text(f"# Says {ATTACK.strip()}\nsource: 5\n", encoding="utf-8")
    (tmp_path / "recipes" / "other.yaml").write_text('"b\u202ec": 5\nd: "\\e[2J"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert run(["list"]) == 0
    assert run([f"recipe={ATTACK}"]) == 2
    assert run(["recipe=other", f"a{ATTACK}=1"]) == 2
    assert run(["recipe=other"]) == 2
    assert run(["init", ATTACK]) == 2
    assert run([ATTACK]) == 2
    captured = capsys.readouterr()
    assert _is_clean(captured.out)
    assert _is_clean(captured.err)


def test_the_message_of_any_failure_is_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str]) -> int:
        raise BuilderError(ATTACK, code="B0301", hint=ATTACK)

    monkeypatch.setattr("builder.cli.main._dispatch", fail)
    assert run([]) == 1
    assert _is_clean(capsys.readouterr().err)
