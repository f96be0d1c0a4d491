"""The build on the terminal: one line a stage, bars for long work, and a short table at the end; all to one stream."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.progress import Progress as Bars
from rich.text import Text

from builder.artifacts.record import BuildRecord
from builder.progress import Advance, Bounds
from builder.reports.console import TextConsole
from builder.reports.plain import duration
from builder.reports.summary import Line, summary_lines

QUIET, NORMAL, VERBOSE = -1, 0, 1
_STAGE_COLUMN, _TIME_COLUMN = 11, 9
_LEAST_ROOM, _NARROW_INDENT, _WIDE = 30, 4, 64
"""Columns: with less room behind its head, a message begins on a line of its own; bars are shown from `_WIDE` on."""


class Terminal:
    """A Progress for people. On a terminal with colours (unless NO_COLOR) and bars; elsewhere plain lines.

    `verbosity` is below 0 with `-q` (only warnings), 0, or above 0 with `-v` (details too). Use it as a context
    manager, or `close` it, so that a failure leaves no spinner behind.
    """

    def __init__(self, verbosity: int, stream: TextIO) -> None:
        self._verbosity = verbosity
        self._console = TextConsole(
            file=stream, force_terminal=stream.isatty(), highlight=False, markup=False, emoji=False, soft_wrap=True
        )
        self._animated = self._console.is_terminal and not self._console.is_dumb_terminal and verbosity >= NORMAL
        self._bars: Bars | None = None
        self._spinner: TaskID | None = None

    def begin(self, stage: str, expected: float | None = None) -> None:
        """Show a spinner for the stage, with how long it took the last time where that is known."""
        if self._animated:
            self._drop_spinner()
            self._spinner = self._started().add_task(stage, total=None, unit="", expected=expected)

    def end(self, stage: str, seconds: float, result: str, *, cached: bool) -> None:
        """Print the stage's line; its time is `cached` where the result came from the store."""
        self._drop_spinner()
        if self._verbosity >= NORMAL:
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
        self._print_hanging(Text(f"  warning[{code}]: ", "bold yellow"), message, style="yellow")

    def detail(self, message: str) -> None:
        """Print a detail with `-v`."""
        if self._verbosity >= VERBOSE:
            self._print_hanging(Text(" " * (2 + _STAGE_COLUMN)), message, style="dim")

    def bound(self, bounds: Bounds) -> None:
        """Print nothing: the summary tells values when they are final."""

    def summary(self, record: BuildRecord) -> None:
        """Print the table at the end; with `-q` only what must not be overlooked."""
        self.close()
        for line in summary_lines(record, utf8=not self._console.options.ascii_only):
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
        head = Text.assemble("  ", (line.label.ljust(_STAGE_COLUMN), "bold" if line.loud else "dim"))
        if line.mark:
            head.append(line.mark + " ", line.style)
        if line.label or line.text or line.mark:
            self._print_hanging(head, line.text, style="" if line.mark else line.style, whole=line.whole)
        else:
            self._console.print()

    def _print_hanging(self, head: Text, message: str, *, style: str = "", whole: bool = False) -> None:
        """Print `message` after `head`, further lines aligned with the first; `whole` text is never broken."""
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
            self._bars = Bars(
                SpinnerColumn(finished_text=" "),
                TextColumn("{task.description}", markup=False),
                *((_OnlyBars(bar_width=24),) if self._console.width >= _WIDE else ()),
                _Amount(),
                _Time(),
                console=self._console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                refresh_per_second=8,
            )
            self._bars.start()
        return self._bars

    def _drop_spinner(self) -> None:
        if self._bars is not None and self._spinner is not None:
            self._bars.remove_task(self._spinner)
            self._spinner = None
            self._stop_when_idle()

    def _stop_when_idle(self) -> None:
        if self._bars is not None and not self._bars.tasks:
            self.close()


class _OnlyBars(BarColumn):
    """A bar for tasks that count something; nothing for a stage's spinner."""

    def render(self, task: Task) -> Text:  # type: ignore[override]  # any renderable will do for rich
        return super().render(task) if task.fields["unit"] else Text("")  # type: ignore[return-value]  # see above


class _Time(ProgressColumn):
    """How long it has taken, and how long it may take: as the last time, or as the bar goes on."""

    max_refresh = 0.5  # else the estimate is unsteady

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        if task.fields["expected"] is not None:
            return Text(f"{clock(elapsed)} of about {clock(task.fields['expected'])}", style="progress.elapsed")
        left = task.time_remaining
        estimate = "" if left is None or task.finished else f", about {clock(left)} left"
        return Text(f"{clock(elapsed)}{estimate}", style="progress.elapsed")


def clock(seconds: float) -> str:
    """Whole seconds as a clock shows them: `0:07`, `12:30`, `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Amount(TextColumn):
    """How much is done, in bytes or items."""

    def __init__(self) -> None:
        super().__init__("")
        self._bytes, self._items = DownloadColumn(), MofNCompleteColumn()

    def render(self, task: Task) -> Text:
        if not task.fields["unit"]:
            return Text("")
        return (self._bytes if task.fields["unit"] == "B" else self._items).render(task)
