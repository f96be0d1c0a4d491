"""What became of a job: from how its process ended, its log, and the `build.json` that it left."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from builder.jobs.jobs import Exit, Job, Outcome, Task
from builder.jobs.watch import reason, was_up_to_date
from builder.reports.build_json import FILE_NAME, read_build_json
from builder.util import paths

INTERRUPTED = 130


def refused(job: Job) -> Outcome:
    """The outcome of a job whose arguments are wrong."""
    message = reason(job.refusal, 2)
    return Outcome(job=job, status="wrong", exit_code=2, message=message)


def not_started(job: Job) -> Outcome:
    """The outcome of a job that an interruption came before."""
    return Outcome(job=job, status="not started", exit_code=INTERRUPTED)


def outcome_of(job: Job, exit: Exit, task: Task, outputs: Path, *, stopped: bool) -> Outcome:
    """The outcome of a job that ran, or that its launcher could not start."""
    log = _read(Path(task.log))
    status, message = _status(exit, log, stopped=stopped)
    artifact = (_read(Path(task.out)).splitlines() or [""])[-1] if exit.code == 0 else ""
    if exit.code == 0 and not (artifact and (Path(task.folder) / artifact).exists()):
        message = "it ended without an artifact, as where its code calls os._exit"
        return Outcome(job=job, status="failed", exit_code=3, seconds=exit.seconds, message=message)
    document = None
    if exit.code == 0:
        document = _document(Path(task.folder) / artifact)
    elif status == "broken":
        document = _broken_document(job, outputs)
    return Outcome(
        job=job,
        status=status,
        exit_code=exit.code if exit.code >= 0 else INTERRUPTED if stopped else 1,
        seconds=exit.seconds,
        peak_bytes=exit.peak_bytes,
        artifact=artifact,
        document=document,
        message=message,
        log=Path(task.log) if log else None,
    )


def _status(exit: Exit, log: str, *, stopped: bool) -> tuple[str, str]:
    if exit.code == 0:
        return ("up to date" if was_up_to_date(log) else "built"), ""
    if exit.code == INTERRUPTED or (stopped and exit.code < 0):
        return "interrupted", ""
    if exit.code < 0:
        return "killed", exit.summary or _signal(-exit.code)
    return ("broken" if exit.code == 5 else "failed"), exit.summary or reason(log, exit.code)


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    cause = {
        "SIGKILL": ", most likely because memory ran out",
        "SIGSEGV": ", a crash of native code",
        "SIGABRT": ", given up by native code",
    }
    return f"ended by {name}{cause.get(name, '')}"


def _broken_document(job: Job, outputs: Path) -> dict[str, Any] | None:
    """The newest `build.json` of a broken build: the variant's, or that of its untrained weights."""
    assert job.request is not None  # it was started
    variant = job.request.variant
    names = (variant, "seeded" if variant == "default" else f"{variant},seeded")
    files = [paths.broken_folder(outputs, job.request.recipe, name) / FILE_NAME for name in names]
    newest = max((f for f in files if f.exists()), key=lambda f: f.stat().st_mtime, default=None)
    return _document(newest) if newest else None


def _document(beside: Path) -> dict[str, Any] | None:
    """The `build.json` beside an artifact; None where it is missing or damaged, which costs the table some cells."""
    try:
        return read_build_json(beside.parent)
    except (OSError, ValueError, KeyError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
