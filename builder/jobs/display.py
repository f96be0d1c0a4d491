"""A sweep on the terminal: one line when a job starts and when it ends, and below them what runs now."""

from __future__ import annotations

from typing import TextIO

from rich.progress import Progress as Bars
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from builder.jobs.jobs import Job, Outcome
from builder.jobs.table import Row, print_table
from builder.reports.console import TextConsole
from builder.reports.plain import duration
from builder.reports.terminal import NORMAL, VERBOSE

_STATUS_COLUMN = 12


class Display:
    """Tells people how a sweep goes; use it as a context manager, so that nothing stays animated."""

    def __init__(self, *, jobs: int, verbosity: int, stream: TextIO) -> None:
        self._jobs = jobs
        self._verbosity = verbosity
        self._console = TextConsole(file=stream, highlight=False, markup=False, emoji=False)
        animated = self._console.is_terminal and not self._console.is_dumb_terminal and verbosity >= NORMAL
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not animated,
            refresh_per_second=4,
        )
        self._running: dict[int, TaskID] = {}
        self._warned: set[str] = set()

    def __enter__(self) -> Display:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def started(self, job: Job) -> None:
        """Say that a job begins."""
        self._line(job, "started", job.label)
        self._running[job.number] = self._bars.add_task(self._described(job, "starting"), total=None)

    def at(self, job: Job, stage: str) -> None:
        """Show the stage of a running job; with `-v` a line for each."""
        if job.number in self._running:
            self._bars.update(self._running[job.number], description=self._described(job, stage))
        if self._verbosity >= VERBOSE and stage:
            self._line(job, stage, job.label)

    def warned(self, job: Job, message: str) -> None:
        """Show a warning, the same one only once."""
        if message not in self._warned:
            self._warned.add(message)
            self._line(job, "warning", message, style="yellow", loud=True)

    def ended(self, outcome: Outcome) -> None:
        """Say how a job ended."""
        if outcome.job.number in self._running:
            self._bars.remove_task(self._running.pop(outcome.job.number))
        good = outcome.succeeded
        took = f"{duration(outcome.seconds)}  " if outcome.seconds else ""
        why = f": {outcome.message}" if outcome.message else ""
        style = "green" if good else "bold red"
        self._line(outcome.job, outcome.status, f"{took}{outcome.job.label}{why}", style=style, loud=not good)

    def say(self, message: str) -> None:
        """Print a line, unless quiet."""
        if self._verbosity >= NORMAL:
            self._console.print(Text(message), soft_wrap=True)

    def warn(self, message: str, *, code: str) -> None:
        """Print a warning that is not of one job."""
        self._console.print(Text(f"warning[{code}]: {message}", style="yellow"), soft_wrap=True)

    def table(self, rows: list[Row]) -> None:
        """Print the table at the end, and how many were built."""
        if self._verbosity >= NORMAL:
            self._console.print()
            print_table(rows, self._console)
        built = sum(row.outcome.succeeded for row in rows)
        self._console.print(Text(f"{built} of {len(rows)} built", style="bold" if built == len(rows) else "bold red"))

    def _line(self, job: Job, what: str, text: str, *, style: str = "", loud: bool = False) -> None:
        if loud or self._verbosity >= NORMAL:
            head = Text(f"[{job.number:>{len(str(self._jobs))}}/{self._jobs}] ", style="dim")
            body = Text.assemble(head, (what.ljust(_STATUS_COLUMN), style), text)
            self._console.print(body, soft_wrap=True)

    def _described(self, job: Job, stage: str) -> str:
        return f"[{job.number:>{len(str(self._jobs))}}/{self._jobs}] {stage:<9} {job.label}"
