"""The one MLflow run of a whole sweep: its table as an artifact, sizes, times and worst values as metrics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from builder.jobs.table import Row
from builder.reports.plain import duration, size
from builder.reports.verdict import worst_values
from builder.spec.tracking import MlflowTracking
from builder.tracking.run import LONGEST_TAG, LONGEST_VALUE, TrackedRun, metric_key, user_name


def summary_run(
    rows: Sequence[Row], *, sweep_id: str, arguments: Sequence[str], started: float, ended: float
) -> TrackedRun:
    """The run for a sweep from `started` to `ended` (seconds since 1970); `FAILED` where any job failed."""
    good = all(row.outcome.succeeded for row in rows)
    figures = dict(_figures(rows, ended - started))
    recipes = sorted({row.recipe for row in rows if row.recipe})
    tags = {
        "sweep_id": sweep_id,
        "builder.kind": "sweep",
        "status": "built" if good else "failed",
        "recipe": ",".join(recipes),
        "mlflow.user": user_name(),
        "mlflow.source.type": "LOCAL",
        "mlflow.source.name": "builder -m",
        "mlflow.note.content": _note(rows),
    }
    return TrackedRun(
        name=f"sweep {sweep_id}",
        status="FINISHED" if good else "FAILED",
        started_ms=round(started * 1000),
        ended_ms=round(ended * 1000),
        params={"arguments": " ".join(arguments)[:LONGEST_VALUE]},
        metrics={key: value for key, value in figures.items() if math.isfinite(value)},
        tags={key: value[:LONGEST_TAG] for key, value in sorted(tags.items()) if value},
    )


def _figures(rows: Sequence[Row], seconds: float) -> Iterator[tuple[str, float]]:
    yield "jobs/total", float(len(rows))
    for status, count in sorted(Counter(row.outcome.status for row in rows).items()):
        yield f"jobs/{status.replace(' ', '_')}", float(count)
    yield "seconds/total", seconds
    for row in rows:
        name = "/".join(metric_key(part) for part in (row.recipe, row.variant))
        if row.outcome.seconds:
            yield f"seconds/{name}", row.outcome.seconds
        if row.size_bytes is not None:
            yield f"bytes/{name}", float(row.size_bytes)
        for check_name, check in row.checks.items():
            for measure, value in worst_values(check).items():
                yield f"{metric_key(check_name)}/{metric_key(measure)}/{name}", float(value)


def _note(rows: Sequence[Row]) -> str:
    """The description at the head of the run's page, in Markdown: the table."""
    lines = ["| # | recipe | variant | size | status | checks | time |", "|---|---|---|---|---|---|---|"]
    for row in rows:
        checks = ", ".join(f"{name} {check.verdict}" for name, check in row.checks.items())
        amount = "" if row.size_bytes is None else size(row.size_bytes)
        cells = (
            str(row.outcome.job.number),
            row.recipe,
            row.variant,
            amount,
            row.outcome.status,
            checks,
            duration(row.outcome.seconds),
        )
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def trackings(rows: Sequence[Row]) -> list[MlflowTracking]:
    """The places that the summary goes to: each server and experiment that a job is sent to, once."""
    found: dict[tuple[str | None, str], MlflowTracking] = {}
    for row in rows:
        tracking = row.outcome.job.request.spec.tracking if row.outcome.job.request else None
        if isinstance(tracking, MlflowTracking):
            place = (tracking.uri, tracking.experiment)
            known = found.get(place)
            found[place] = tracking if known is None or tracking.required else known
    return list(found.values())
