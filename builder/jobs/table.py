"""The table of a sweep: one row a job, as lines for the terminal and as CSV for everybody else."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from builder.analysis.costs.screen import amount
from builder.artifacts.checks import CheckReport
from builder.artifacts.costs import figures
from builder.artifacts.devices import figures as device_figures
from builder.jobs.jobs import Outcome
from builder.reports.plain import duration, size, value_text
from builder.reports.verdict import leading, worst_values
from builder.util.text import csv_cell

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

_STYLES = {"built": "green", "up to date": "green", "not started": "dim", "interrupted": "yellow"}
_MARKS = {True: ("✓", "+"), False: ("✗", "x"), None: ("–", "-")}
_ROOM_FOR_VARIANT = 24
_COLUMNS = {"costs.macs": "MACs", "costs.peak_bytes": "memory"}
"""The figures that have a column on the screen, with its head; the others are in the CSV file."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the table says about one job."""

    outcome: Outcome
    recipe: str
    variant: str
    size_bytes: int | None
    digest: str
    checks: Mapping[str, CheckReport]
    """By name, with the engine too where one check ran on several."""
    figures: Mapping[str, float]
    """What the artifact costs, and what devices measured: `costs.macs`, `device.iPhone16,2.ane.latency_ms`."""

    @property
    def name(self) -> str:
        """Recipe and variant, as the folder below outputs."""
        return f"{self.recipe}/{self.variant}"


def row_of(outcome: Outcome) -> Row:
    """Return the row of a job; of one that was never built, what its arguments say."""
    document, request = outcome.document or {}, outcome.job.request
    artifact = document.get("artifact", {})
    return Row(
        outcome=outcome,
        recipe=document.get("recipe") or (request.recipe if request else _named(outcome)),
        variant=document.get("variant") or (request.variant if request else outcome.job.label),
        size_bytes=artifact.get("bytes"),
        digest=artifact.get("digest", ""),
        checks=_checks(document.get("checks", [])),
        figures=_figures(document),
    )


def _figures(document: JsonObject) -> dict[str, float]:
    """The numbers of an artifact that no check makes."""
    found = {f"costs.{name}": value for costs in document.get("costs", ()) for name, value in figures(costs).items()}
    devices = (device_figures(device) for device in document.get("devices", ()))
    return found | {f"device.{name}": value for numbers in devices for name, value in numbers.items()}


def _named(outcome: Outcome) -> str:
    """The recipe of a job whose arguments are wrong, as it is written."""
    return next((a.partition("=")[2] for a in outcome.job.arguments if a.startswith("recipe=")), "")


def _checks(reports: Sequence[JsonObject]) -> dict[str, CheckReport]:
    names = [report["name"] for report in reports]
    found = {}
    for report in reports:
        name = report["name"] if names.count(report["name"]) == 1 else f"{report['name']} ({report['engine']})"
        kept = {key: value for key, value in report.items() if key != "verdict"}  # which follows from the others
        found[name] = CheckReport(**{**kept, "values": _numbers(report["values"])})
    return found


def _numbers(value: object) -> Any:
    """Turn the texts by which JSON writes infinity and NaN back into numbers."""
    if isinstance(value, Mapping):
        return {key: _numbers(child) for key, child in value.items()}
    return float(value) if isinstance(value, str) and value in ("inf", "-inf", "nan") else value


def render_csv(rows: Sequence[Row]) -> str:
    """Return the whole table with plain numbers: a line for each job, columns for each value of each check."""
    records = [_record(row) for row in rows]
    named = ["name"] if any("name" in record for record in records) else []
    head = ["job", *named, "recipe", "variant", "status", "exit_code", "seconds", "bytes", "peak_bytes"]
    tail = ["artifact", "digest", "message", "arguments", "log"]
    middle = list(dict.fromkeys(key for record in records for key in record if key not in (*head, *tail)))
    text = io.StringIO()
    columns = [*head, *middle, *tail]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_cell(name) for name in columns)
    writer.writerows([csv_cell(record.get(name, "")) for name in columns] for record in records)
    return text.getvalue()


def _record(row: Row) -> dict[str, object]:
    outcome = row.outcome
    record: dict[str, object] = {
        "job": outcome.job.number,
        **({"name": outcome.job.name} if outcome.job.name else {}),
        "recipe": row.recipe,
        "variant": row.variant,
        "status": outcome.status,
        "exit_code": outcome.exit_code,
        "seconds": round(outcome.seconds, 2),
        "bytes": "" if row.size_bytes is None else row.size_bytes,
        "peak_bytes": "" if outcome.peak_bytes is None else outcome.peak_bytes,
        "artifact": outcome.artifact,
        "digest": row.digest,
        "message": outcome.message,
        "arguments": " ".join(outcome.job.arguments),
        "log": "" if outcome.log is None else str(outcome.log),
    }
    record |= row.figures
    for name, check in row.checks.items():
        record[f"{name}.verdict"] = check.verdict
        record |= {f"{name}.{measure}": value for measure, value in worst_values(check).items()}
    return record


def print_table(rows: Sequence[Row], console: Console) -> None:
    """Print the table as wide as the terminal, at least so that it fits 80 columns, and below it why jobs failed."""
    checks = list(dict.fromkeys(name for row in rows for name in row.checks))
    wide = _table(rows, checks, console)
    if console.measure(wide).minimum > console.width or _left_for_variant(rows, checks, console) < _ROOM_FOR_VARIANT:
        wide = _table(rows, None, console)
    console.print(wide)
    if any(row.outcome.message for row in rows):
        console.print()
    for row in rows:
        if row.outcome.message:
            console.print(Text(f"{row.outcome.job.number:>3}  {row.outcome.message}"), style="red", soft_wrap=True)


def _left_for_variant(rows: Sequence[Row], checks: Sequence[str], console: Console) -> int:
    """The columns that the variant would have if each check had one of its own, or all that it needs."""
    needed = max((len(_shown_variant(row, rows)) for row in rows), default=0)
    others = _table(rows, checks, console, without_variant=True)
    return _ROOM_FOR_VARIANT if needed < _ROOM_FOR_VARIANT else console.width - console.measure(others).maximum - 2


def _table(
    rows: Sequence[Row], checks: Sequence[str] | None, console: Console, *, without_variant: bool = False
) -> Table:
    """Lay out the table; with `checks` None, all checks share one column."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), collapse_padding=True, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("variant", overflow="fold", ratio=1 if not without_variant else None)
    table.add_column("size", justify="right", no_wrap=True)
    differing = _differing(rows)
    for name in differing:
        table.add_column(_head(name), justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    for name in checks if checks is not None else ["checks"] if any(row.checks for row in rows) else []:
        table.add_column(_heading(name, rows) if checks is not None else name, no_wrap=checks is not None)
    table.add_column("time", justify="right", no_wrap=True)
    plain = console.options.ascii_only
    for row in rows:
        cells = [_cell(row, name, _measure(name, rows), plain=plain) for name in checks or ()]
        if checks is None and any(other.checks for other in rows):
            cells = ["\n".join(_cell(row, name, "", plain=plain, full=True) for name in row.checks)]
        outcome = row.outcome
        table.add_row(
            str(outcome.job.number),
            "" if without_variant else _shown_variant(row, rows),
            "" if row.size_bytes is None else size(row.size_bytes),
            *(figure_text(name, row.figures.get(name)) for name in differing),
            Text(outcome.status, style=_STYLES.get(outcome.status, "bold red")),
            *cells,
            duration(outcome.seconds) if outcome.seconds else "",
        )
    return table


def _differing(rows: Sequence[Row]) -> list[str]:
    """The figures worth a column: costs in which jobs differ, and the latency of each unit that a device measured."""
    found = {name: {row.figures[name] for row in rows if name in row.figures} for name in _COLUMNS}
    measured = sorted({name for row in rows for name in row.figures if name.endswith(".latency_ms")})
    return [*(name for name, values in found.items() if len(values) > 1), *measured]


def _head(name: str) -> str:
    """`MACs`, or the device and the unit whose latency it is."""
    return _COLUMNS.get(name) or "\n".join([*name.split(".")[1:3], "ms"])


def figure_text(name: str, value: float | None) -> str:
    """A figure as people read it."""
    if value is None:
        return ""
    return amount(round(value)) if name.rpartition(".")[2] == "macs" else value_text(name, value)


def _shown_variant(row: Row, rows: Sequence[Row]) -> str:
    """The variant with spaces at which it may be broken, after the recipe where there are several; or its own name."""
    if row.outcome.job.name:
        return row.outcome.job.name
    several = len({other.recipe for other in rows}) > 1
    variant = row.variant.replace(",", ", ")
    return f"{row.recipe} {variant}".strip() if several else variant


def _heading(name: str, rows: Sequence[Row]) -> str:
    measure = _measure(name, rows)
    return f"{name}\n{measure}" if measure else name


def _measure(name: str, rows: Sequence[Row]) -> str:
    """What the column of a check shows, where a row has nothing worse to say."""
    found = (leading(row.checks[name]) for row in rows if name in row.checks)
    return next((measure for measure, _ in filter(None, found)), "")


def _cell(row: Row, name: str, usual: str, *, plain: bool, full: bool = False) -> str:
    """A check's leading measure, its worst value, with the verdict; `full` names the check, and any measure too."""
    check = row.checks.get(name)
    if check is None:
        return ""
    mark = _MARKS[check.passed][1 if plain else 0]
    measure, value = leading(check) or ("", math.nan)
    text = value_text(measure, value) if measure else ""
    wording = measure.replace("_", " ") if measure not in (name if full else usual, usual) else ""
    parts = [mark, name if full else "", wording, text]
    return " ".join(part for part in parts if part)
