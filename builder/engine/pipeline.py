"""A build on one page, from a request to a record; the order of the stages is in `builder.engine.table`."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.devices import DeviceMeasurement, read_measurements
from builder.artifacts.record import AutoResult, BuildRecord
from builder.artifacts.stages import BuildRequest
from builder.backends import backend_of
from builder.engine.failure import with_log
from builder.engine.recapture import note_better_capture
from builder.engine.result import log_details, make_record
from builder.engine.run import Run, RunContext, Step, until_stable
from builder.engine.runner import StageRunner
from builder.engine.table import CHOOSE, COMPRESS, CONVERT, PREPARE, SEAL, STAGES, TRIAL, VERIFY
from builder.errors import ConversionError
from builder.progress import Progress, Silent
from builder.spec.tracking import NoTracking
from builder.util.paths import broken_folder, carry_over, publish, refuse_foreign, variant_folder, working_folder

if TYPE_CHECKING:  # a cached build must not import torch
    from builder.backends.coreml.preflight.obstacles import Diagnosis


def build(request: BuildRequest, *, outputs: Path, progress: Progress) -> BuildRecord:
    """Build, check, publish and record what `request` asks for; what the store has is not done again.

    Where a check misses its limit, the record's status is `broken` and the artifact lies under `outputs/broken/`.
    Raises SourceError, ConversionError and their like when a stage fails.
    """
    from builder.reports.files import build_logged, write_reports

    backend_of(request.spec.format).check_installed()
    started = time.perf_counter()
    with working_folder(outputs, request.recipe, request.variant, progress=progress) as folder:
        try:
            with build_logged(folder, progress) as logged:
                record = _recorded(request, folder, logged)
                log_details(record, logged)
        except ConversionError as error:
            raise with_log(error, folder, broken_folder(outputs, request.recipe, request.variant)) from error
        record = replace(record, devices=_measured_before(record.artifact.digest, outputs, progress))
        good = record.status == "built"
        place = variant_folder if good else broken_folder
        final = place(outputs, request.recipe, record.variant)
        record = replace(
            record,
            artifact=replace(record.artifact, path=final / record.artifact.path.name),
            seconds=time.perf_counter() - started,
        )
        write_reports(record, folder)
        if record.chosen is not None:
            from builder.auto.recipe import write_beside

            write_beside(record, record.chosen, folder, progress)
        refuse_foreign(final)
        if kept := carry_over(final, folder, request.recipe):
            message = f"left beside the artifact, since no build made it: {', '.join(kept)}"
            progress.warn(message, code="B0009")
        publish(folder, final)
        if not isinstance(request.spec.tracking, NoTracking):
            from builder.tracking import track

            track(record, outputs=outputs, progress=progress)  # before the next build of this variant replaces it
    return record


def _measured_before(artifact: str, outputs: Path, progress: Progress) -> tuple[DeviceMeasurement, ...]:
    """What devices measured of an artifact of the same bytes; damaged files are a warning, and count for nothing."""
    try:
        return read_measurements(outputs, artifact)
    except (OSError, ValueError) as error:
        progress.warn(f"measurements on devices cannot be read: {error}", code="B0020")
        return ()


def recorded(request: BuildRequest, folder: Path, progress: Progress) -> BuildRecord:
    """What a build of `request` would write down, its artifact in `folder`; nothing is published or tracked."""
    return _recorded(request, folder, progress)


def _recorded(request: BuildRequest, folder: Path, progress: Progress) -> BuildRecord:
    """The record of a build whose artifact lies in `folder`."""
    began = datetime.now(UTC).isoformat(timespec="seconds")

    def body(runner: StageRunner) -> tuple[BuildRecord, bool]:
        runner.store.tidy()
        run = _run(request, folder, runner, progress).advance()
        return make_record(run, began), note_better_capture(run, try_out)

    record, has_better = until_stable(progress, body)
    return until_stable(progress, body)[0] if has_better else record


def _run(
    request: BuildRequest, folder: Path, runner: StageRunner, progress: Progress, table: tuple[Step, ...] = STAGES
) -> Run:
    return Run(RunContext(table=table, request=request, progress=progress, runner=runner, folder=folder))


def look_up(request: BuildRequest, runner: StageRunner, progress: Progress) -> Run:
    """Go through the stages with a runner that runs none; raises CacheMissError at the first without a result."""
    return _run(request, Path(), runner, progress).advance()


def examine(request: BuildRequest, *, progress: Progress) -> Diagnosis:
    """Say what prevents a build, without converting; raises SourceError and its like as a build does."""
    from builder.engine.diagnose import examine_run

    return until_stable(
        progress, lambda runner: examine_run(_run(request, Path(), runner, progress).advance(until=PREPARE).first)
    )


def seal_only(request: BuildRequest, *, folder: Path, progress: Progress) -> Run:
    """Build up to the sealed artifact, which lies in `folder` then, without any check; nothing is published."""

    def body(runner: StageRunner) -> Run:
        run = _run(request, folder, runner, progress, TRIAL).advance(until=SEAL)
        for function in run.functions.values():
            # of a stage that is run again, here where another result can be dealt with
            _ = function[PREPARE].value(), function[CONVERT].value(), function[COMPRESS].value()
        run[SEAL].value()
        return run

    return until_stable(progress, body)


def try_out(request: BuildRequest, *, folder: Path) -> Run:
    """Build and check, in `folder`, without a word; nothing is published, and missed limits are in the reports."""

    def body(runner: StageRunner) -> Run:
        run = _run(request, folder, runner, Silent(), TRIAL).advance()
        run[VERIFY].value()
        return run

    return until_stable(Silent(), body)


def find_choice(request: BuildRequest, *, progress: Progress) -> AutoResult:
    """What `auto` of a request stands for: from the store, or found now; nothing is built for the user."""

    def body(runner: StageRunner) -> AutoResult:
        return _run(request, Path(), runner, progress).advance(until=CHOOSE)[CHOOSE].value()

    return until_stable(progress, body)
