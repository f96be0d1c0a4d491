"""The build on the terminal: one line a stage, bars for long work, and a short table at the end; all to one stream."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

from builder.artifacts.record import BuildRecord
from builder.progress import Advance, Bounds
from builder.reports.plain import duration
from builder.reports.summary import Line, summary_lines

if TYPE_CHECKING:  # rich is imported when there is something to print: with `-q` there mostly is not
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.text import Text

    from builder.reports.console import TextConsole

QUIET, NORMAL, VERBOSE = -1, 0, 1
_STAGE_COLUMN, _TIME_COLUMN = 11, 9
_LEAST_ROOM, _NARROW_INDENT = 30, 4
"""Columns: with less room behind its head, a message begins on a line of its own."""


class Terminal:
    """A Progress for people. On a terminal with colours (unless NO_COLOR) and bars; elsewhere plain lines.

    `verbosity` is below 0 with `-q` (only warnings), 0, or above 0 with `-v` (details too). Use it as a context
    manager, or `close` it, so that a failure leaves no spinner behind.
    """

    def __init__(self, verbosity: int, stream: TextIO) -> None:
        self._verbosity = verbosity
        self._stream = stream
        self._animated = (
            verbosity >= NORMAL and stream.isatty() and self._console.is_terminal and not self._console.is_dumb_terminal
        )
        self._bars: Bars | None = None
        self._spinner: TaskID | None = None

    @cached_property
    def _console(self) -> TextConsole:
        from builder.reports.console import TextConsole

        return TextConsole(
            file=self._stream,
            force_terminal=self._stream.isatty(),
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )

    def begin(self, stage: str, expected: float | None = None) -> None:
        """Show a spinner for the stage, with how long it took the last time where that is known."""
        if self._animated:
            self._drop_spinner()
            self._spinner = self._started().add_task(stage, total=None, unit="", expected=expected)

    def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
        """Print the stage's line; its time is `cached` where the result came from the store."""
        self._drop_spinner()
        if self._verbosity >= NORMAL:
            from rich.text import Text

            time = "cached" if cached else duration(seconds)
            head = Text.assemble(
                ("  " + stage.ljust(_STAGE_COLUMN), "bold"), (time.rjust(_TIME_COLUMN) + "  ", "cyan" if cached else "")
            )
            self._print_hanging(head, result)

    @contextmanager
    def bar(self, description: str, total: int | None, *, unit: str) -> Iterator[Advance]:
        """Show a bar while the block runs; nothing where nobody looks at a terminal."""
        if not self._animated:
            yield lambda _: None
            return
        bars = self._started()
        task = bars.add_task(description, total=total, unit=unit, expected=None)
        try:
            yield lambda count: bars.advance(task, count)
        finally:
            bars.remove_task(task)
            self._stop_when_idle()

    def warn(self, message: str, *, code: str) -> None:
        """Print a warning, with `-q` too."""
        from rich.text import Text

        self._print_hanging(Text(f"  warning[{code}]: ", "bold yellow"), message, style="yellow")

    def detail(self, message: str) -> None:
        """Print a detail with `-v`."""
        if self._verbosity >= VERBOSE:
            from rich.text import Text

            self._print_hanging(Text(" " * (2 + _STAGE_COLUMN)), message, style="dim")

    def bound(self, bounds: Bounds) -> None:
        """Print nothing: the summary tells values when they are final."""

    def summary(self, record: BuildRecord) -> None:
        """Print the table at the end; with `-q` only what must not be overlooked."""
        self.close()
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        for line in summary_lines(record, utf8=encoding.lower().startswith("utf")):
            if self._verbosity >= NORMAL or line.loud:
                self._print_line(line)

    def close(self) -> None:
        """Stop whatever is animated; printing goes on working."""
        if self._bars is not None:
            self._bars.stop()
        self._bars = self._spinner = None

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _print_line(self, line: Line) -> None:
        from rich.text import Text

        head = Text.assemble("  ", (line.label.ljust(_STAGE_COLUMN), "bold" if line.loud else "dim"))
        if line.mark:
            head.append(line.mark + " ", line.style)
        if line.label or line.text or line.mark:
            self._print_hanging(head, line.text, style="" if line.mark else line.style, whole=line.whole)
        else:
            self._console.print()

    def _print_hanging(self, head: Text, message: str, *, style: str = "", whole: bool = False) -> None:
        """Print `message` after `head`, further lines aligned with the first; `whole` text is never broken."""
        from rich.text import Text

        indent = head.cell_len
        paragraphs = message.splitlines() or [""]
        is_narrow = self._console.is_terminal and self._console.width - indent < _LEAST_ROOM
        if is_narrow and max(map(len, paragraphs)) > self._console.width - indent:
            head.rstrip()
            self._console.print(head[len(head.plain) - len(head.plain.lstrip()) - 2 :], soft_wrap=True)
            indent = _NARROW_INDENT
            head = Text(" " * indent)
        width = max(self._console.width - indent, 1)
        if self._console.is_terminal and not whole:
            paragraphs = [part for paragraph in paragraphs for part in textwrap.wrap(paragraph, width) or [""]]
        for index, part in enumerate(paragraphs):
            start = head if index == 0 else Text(" " * indent)
            text = Text.assemble(start, (part, style))
            text.rstrip()
            self._console.print(text, soft_wrap=True)

    def _started(self) -> Bars:
        if self._bars is None:
            from builder.reports.bars import started_bars

            self._bars = started_bars(self._console)
        return self._bars

    def _drop_spinner(self) -> None:
        if self._bars is not None and self._spinner is not None:
            self._bars.remove_task(self._spinner)
            self._spinner = None
            self._stop_when_idle()

    def _stop_when_idle(self) -> None:
        if self._bars is not None and not self._bars.tasks:
            self.close()
