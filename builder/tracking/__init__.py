"""Where builds are recorded for people to compare: nowhere, or MLflow through an outbox that no build waits for."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from builder.artifacts.record import BuildRecord
from builder.errors import BuilderError, UnfitEnvironmentError
from builder.progress import Progress
from builder.spec.tracking import MlflowTracking
from builder.tracking import outbox
from builder.tracking.flusher import FlushReport, RetainedEntry, flush, start_flusher, wait_for_flusher
from builder.tracking.run import TrackedRun
from builder.util import paths
from builder.util.locations import shown

__all__ = ["FlushReport", "RetainedEntry", "flush", "track", "track_run"]


def track(record: BuildRecord, *, outputs: Path, progress: Progress) -> None:
    """Put `record` into the outbox and start a flusher; with `required`, wait until the record is sent.

    Raises UnfitEnvironmentError when tracking is required and the record could not be sent (it stays in the outbox).
    Without `required` nothing here fails a build; what could not be done is a warning.
    """
    tracking = record.request.spec.tracking
    if not isinstance(tracking, MlflowTracking):
        return
    try:
        identifier = outbox.put(record, outputs)
    except (OSError, BuilderError) as error:
        if tracking.required:
            raise
        progress.warn(f"the run was not recorded in MLflow: {error}", code="B0014")
        return
    if tracking.register_as and not outbox.may_be_registered(record):
        why = "its weights are untrained" if record.seeded else "a check missed its limit"
        progress.warn(f"not registered as {tracking.register_as}: {why}", code="B0015")
    if tracking.required:
        _send_now(identifier, outputs, progress)
        return
    _tell_of_earlier_failures(identifier, outputs, progress)
    start_flusher(outputs)


def track_run(
    run: TrackedRun, tracking: MlflowTracking, *, files: Sequence[Path], outputs: Path, progress: Progress
) -> None:
    """Put a run that is not of one build (such as a sweep's) into the outbox, with `files`; otherwise as `track`."""

    def collect(folder: Path) -> None:
        for file in files:
            shutil.copy2(file, folder / file.name)

    try:
        identifier = outbox.put_run(run, tracking, outputs, collect=collect)
    except (OSError, BuilderError) as error:
        if tracking.required:
            raise
        progress.warn(f"the run was not recorded in MLflow: {error}", code="B0014")
        return
    if tracking.required:
        _send_now(identifier, outputs, progress)
    else:
        start_flusher(outputs)


def _send_now(identifier: str, outputs: Path, progress: Progress) -> None:
    with progress.bar("sending the run to MLflow", None, unit="it"):
        wait_for_flusher(outputs)
    if outbox.is_waiting(outputs, identifier):
        reason = outbox.read_failure(outputs, identifier) or "the flusher ended before it was sent"
        raise UnfitEnvironmentError(
            f"the recipe requires tracking, and the run could not be sent to MLflow: {reason}",
            code="B0708",
            hint=f"it waits in {shown(paths.outbox_folder(outputs))}; `{_flush_command(outputs)}` sends it",
        )


def _tell_of_earlier_failures(identifier: str, outputs: Path, progress: Progress) -> None:
    earlier = [name for name in outbox.waiting(outputs) if name != identifier]
    reasons = [reason for name in earlier if (reason := outbox.read_failure(outputs, name))]
    if reasons:
        runs = "run waits" if len(reasons) == 1 else "runs wait"
        why = f"{len(reasons)} earlier {runs} to be sent to MLflow ({reasons[-1]})"
        progress.warn(f"{why}; `{_flush_command(outputs)}` tries again", code="B0016")


def _flush_command(outputs: Path) -> str:
    folder = shown(outputs)
    return "python -m builder flush" + ("" if folder == "outputs" else f" --outputs {shlex.quote(folder)}")
