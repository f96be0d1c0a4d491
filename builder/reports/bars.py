"""Bars and spinners of a build on a terminal, with how long it has taken and may take."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
)
from rich.text import Text

_WIDE = 64
"""Columns from which on bars are shown."""


def started_bars(console: Console) -> Progress:
    """Bars that run, for tasks with the fields `unit` and `expected`."""
    bars = Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        *((_OnlyBars(bar_width=24),) if console.width >= _WIDE else ()),
        _Amount(),
        _Time(),
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        refresh_per_second=8,
    )
    bars.start()
    return bars


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
