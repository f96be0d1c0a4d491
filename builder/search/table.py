"""The tables of a search: every trial as CSV, and the front for the terminal, for MLflow and as CSV."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from builder.reports.plain import duration, value_text
from builder.search.front import front_of
from builder.search.settings import Search
from builder.search.trials import Trial
from builder.util.text import csv_cell


def render_csv(trials: Sequence[Trial], search: Search) -> str:
    """Return a line for each trial, with plain numbers: settings, objectives, constraints, and what came of it."""
    front = {trial.number for trial in front_of(trials, search.objectives)}
    text = io.StringIO()
    head = ["trial", "state", "front", *search.space, *search.objectives]
    constraints = [name for name in search.constraints if name not in search.objectives]
    tail = ["seconds", "exit_code", "variant", "artifact", "digest", "reason", "arguments", "log"]
    figures = list(dict.fromkeys(name for trial in trials for name in trial.figures))
    columns = [*head, *constraints, *figures, *tail]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_cell(name) for name in columns)
    for trial in trials:
        record = {
            **trial.measured,
            **trial.facts(),
            **trial.figures,
            **trial.point,
            **trial.values,
            "trial": trial.number,
            "front": "yes" if trial.number in front else "",
            "seconds": round(trial.seconds, 2),
            "arguments": " ".join(trial.arguments),
        }
        writer.writerow([csv_cell(record.get(name, "")) for name in columns])
    return text.getvalue()


def counted(trials: Sequence[Trial]) -> str:
    """How many trials there are of each state, in words."""
    counts = Counter(trial.state for trial in trials)
    message = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"{len(trials)} trials: {message}" if trials else "no trials"


def point_text(trial: Trial) -> str:
    """The settings of a trial, short."""
    return ", ".join(f"{n}={v:.4g}" if isinstance(v, float) else f"{n}={v}" for n, v in trial.point.items())


def cells(trial: Trial, search: Search) -> list[str]:
    """The objectives of a trial as people read them, and what constraints measured beside."""
    measured = {name: value for name, value in trial.measured.items() if name not in search.objectives}
    return [
        *(value_text(o.measure, trial.values[name]) for name, o in search.objectives.items()),
        *(value_text(search.constraints[name].measure, value) for name, value in measured.items()),
    ]


def headings(search: Search) -> list[str]:
    """The heads of `cells`."""
    return [*search.objectives, *(name for name in search.constraints if name not in search.objectives)]


def print_front(front: Sequence[Trial], winner: Trial | None, search: Search, console: Console) -> None:
    """Print the front, best first in the first objective; the winner is marked."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold")
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("settings", overflow="fold", ratio=1)
    for name in headings(search):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("time", justify="right", no_wrap=True)
    mark = "*" if console.options.ascii_only else "★"
    for trial in front:
        wins = winner is not None and trial.number == winner.number
        number = f"{mark if wins else ''} {trial.number}".strip()
        row: list[Any] = [number, point_text(trial), *cells(trial, search), duration(trial.seconds)]
        table.add_row(*row, style="green" if wins else "")
    console.print(table)


def say_counts(trials: Sequence[Trial], front: Sequence[Trial], console: Console) -> None:
    """Print how many trials there are and how many of them nothing beats."""
    text = f"{counted(trials)}; {len(front)} on the front"
    console.print(Text(text, style="bold" if front else "bold red"), soft_wrap=True)
