"""The short table at the end of a build, as lines of label and text that the terminal lays out."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.artifacts.checks import CheckReport
from builder.artifacts.record import BuildRecord
from builder.reports.plain import duration, size
from builder.reports.verdict import engine, headline, made_on, seeded_notice, synthetic_notice
from builder.spec.tracking import MlflowTracking
from builder.util import paths
from builder.util.locations import shown
from builder.util.redact import redacted

_MARKS = {True: ("✓", "+", "green"), False: ("✗", "x", "bold red"), None: ("–", "-", "yellow")}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table; an empty one separates."""

    label: str = ""
    text: str = ""
    mark: str = ""
    style: str = ""
    whole: bool = False
    """Paths and commands are never broken, so that they can be copied."""
    loud: bool = False
    """Printed with `-q` too."""


def summary_lines(record: BuildRecord, *, utf8: bool = True) -> tuple[Line, ...]:
    """The table for `record`; `utf8` tells whether ✓ can be shown."""
    return (
        Line(),
        *_title(record),
        Line(),
        *_facts(record),
        *_checks(record, utf8=utf8),
        *_open(record),
        *_places(record),
        *_end(record),
    )


def _title(record: BuildRecord) -> Iterator[Line]:
    name = f"{record.request.recipe} ({record.variant})"
    if record.status == "built":
        yield Line(label="built", text=f"{name} in {duration(record.seconds)}", style="bold green")
    else:
        yield Line(label="broken", text=f"{name}: a check missed its limit", style="bold red", loud=True)


def _facts(record: BuildRecord) -> Iterator[Line]:
    spec = record.spec
    ratio = ""
    if record.source_bytes:
        share = 100 * record.artifact.size_bytes / record.source_bytes
        ratio = f", {share:.0f} % of the source's {size(record.source_bytes)}"
    yield Line(label="size", text=size(record.artifact.size_bytes) + ratio)
    compression = f", compressed: {', '.join(_steps(record))}" if spec.compression else ""
    yield Line(label="precision", text=spec.precision.kind + compression)
    if record.chosen is not None:
        yield Line(label="chosen", text=f"{record.chosen.summary}; {len(record.chosen.tried)} builds measured")
    for note in record.chosen.notes if record.chosen else ():
        yield Line(text=note, style="yellow", loud=True)
    yield Line(label="target", text=f"{spec.system.name}, {record.artifact.format}")


def _steps(record: BuildRecord) -> Iterator[str]:
    """The compression steps, where there are several each with what it costs alone: of one the checks tell."""
    for step in record.compression:
        measured = len(record.compression) > 1 and step.snr_db is not None
        yield f"{step.name} ({step.snr_db:.1f} dB alone)" if measured else step.name


def _checks(record: BuildRecord, *, utf8: bool) -> Iterator[Line]:
    if not record.checks:
        yield Line(label="checks", text="none asked for: nothing is known about what it computes", style="yellow")
    width = max((len(check.name) for check in record.checks), default=0)
    for index, check in enumerate(record.checks):
        rich_mark, plain_mark, style = _MARKS[check.passed]
        yield Line(
            label="checks" if index == 0 else "",
            mark=(rich_mark if utf8 else plain_mark) + " " + check.name.ljust(width + 1),
            text=_check_text(check),
            style=style,
            loud=check.passed is False,
        )


def _check_text(check: CheckReport) -> str:
    message, on = headline(check), made_on(check)
    end = f"; on {on}" if on else ""
    if check.passed is None:
        return f"{check.verdict}: {message}{end}"
    return f"{engine(check)}: " + (message or ("holds" if check.passed else "does not hold")) + end


def _open(record: BuildRecord) -> Iterator[Line]:
    notice = synthetic_notice(record)
    if notice:
        yield Line(text=notice, style="yellow")


def _places(record: BuildRecord) -> Iterator[Line]:
    folder = record.artifact.path.parent
    yield Line(label="artifact", text=shown(record.artifact.path), whole=True)
    yield Line(label="report", text=shown(folder / "report.html"), whole=True)
    how = mlflow_hint(record)
    if how:
        yield Line(label="MLflow", text=how, whole=True)


def mlflow_hint(record: BuildRecord) -> str | None:
    """How to look at the run: a command for the default store, else the address; None without tracking."""
    tracking = record.request.spec.tracking
    if not isinstance(tracking, MlflowTracking):
        return None
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri is None:
        outputs = paths.outputs_of(record.artifact.path, record.request.recipe, broken=record.status == "broken")
        uri = f"sqlite:///{shown(paths.tracking_database(outputs))}"
    if uri.startswith(("http:", "https:")):
        return f"experiment {tracking.experiment} at {without_password(uri)}"
    return f"{mlflow_command()} ui --backend-store-uri {shlex.quote(uri)}"


def mlflow_command() -> str:
    """How `mlflow` is called here: by name where it is on the path, else where this Python keeps it."""
    beside = Path(sys.executable).with_name("mlflow")
    return "mlflow" if shutil.which("mlflow") or not beside.exists() else shlex.quote(shown(beside))


def without_password(uri: str) -> str:
    """`uri` as it may be shown: a user and password before the host, and the query, are left out."""
    return redacted(uri)


def _end(record: BuildRecord) -> Iterator[Line]:
    notice = seeded_notice(record)
    if notice:
        yield Line(loud=True)
        yield Line(label="NOTE", text=notice, style="bold yellow", loud=True)
