"""The story of a build on one page: every stage in order, from a request to a record."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from builder.artifacts import BuildRecord, BuildRequest, CapturedProgram, ConvertedModel, ExampleInputs, PreparedModel
from builder.data import make_examples
from builder.description import describe_artifact
from builder.errors import CheckError, ConversionError
from builder.git import git_state
from builder.paths import (
    artifact_name,
    broken_folder,
    earlier_good_folder,
    publish,
    shown,
    variant_folder,
    working_folder,
)
from builder.progress import Progress
from builder.reports.files import build_logged, write_reports
from builder.spec import BuildSpec
from builder.stages.capture import capture, methods_to_try
from builder.stages.compress import compress
from builder.stages.convert import convert
from builder.stages.ledger import Ledger
from builder.stages.load import describe_load, load
from builder.stages.prepare import describe_prepared, prepare
from builder.stages.seal import describe_sealed, seal
from builder.stages.verify import describe_checks, verify
from builder.store.keys import tool_versions
from builder.tracking import track


def build(request: BuildRequest, *, outputs: Path, progress: Progress) -> BuildRecord:
    """Build, check, publish and record what `request` asks for.

    Raises SourceError, ConversionError and their like when a stage fails, and CheckError, which carries the record,
    when a check misses its limit; the artifact then lies under `outputs/broken/`.
    """
    started = time.perf_counter()
    with working_folder(outputs, request.recipe, request.variant, progress=progress) as folder:
        try:
            with build_logged(folder, progress) as logged:
                record = _run_stages(request, folder, logged)
        except ConversionError as error:
            _keep_log(error, folder, broken_folder(outputs, request.recipe, request.variant))
            raise
        good = record.status == "built"
        place = variant_folder if good else broken_folder
        final = place(outputs, request.recipe, record.variant)
        record = replace(
            record,
            artifact=replace(record.artifact, path=final / record.artifact.path.name),
            seconds=time.perf_counter() - started,
        )
        write_reports(record, folder)
        publish(folder, final)
        track(record, outputs=outputs, progress=progress)  # before the next build of this variant replaces it
    if not good:
        raise _missed(record, outputs)
    return record


def _run_stages(request: BuildRequest, folder: Path, progress: Progress) -> BuildRecord:
    spec, began = request.spec, datetime.now(UTC).isoformat(timespec="seconds")
    ledger = Ledger(spec, progress)
    examples = make_examples(spec)
    loaded = ledger.run("load", lambda: load(spec, examples, progress), describe_load, examples.digest)
    prepared = ledger.run("prepare", lambda: prepare(loaded, examples, spec), describe_prepared, loaded.digest)
    captured, converted = _capture_and_convert(spec, prepared, examples, ledger, progress)
    compressed = ledger.run("compress", lambda: compress(converted, spec, progress), lambda c: c.said)
    artifact = folder / artifact_name(request.recipe, spec.format)
    sealed = ledger.run("seal", lambda: seal(compressed, spec, artifact, seeded=loaded.seeded), describe_sealed)
    checks = ledger.run("verify", lambda: verify(spec, prepared, captured, sealed, progress), describe_checks)
    described = describe_artifact(sealed.path)
    return BuildRecord(
        request=request,
        variant=_variant(request.variant, seeded=loaded.seeded),
        status="broken" if any(check.passed is False for check in checks) else "built",
        key=ledger.reports[-2].key,
        artifact=sealed,
        stages=ledger.reports,
        checks=checks,
        inputs=described.inputs,
        outputs=described.outputs,
        source={**loaded.origin, "seeded": loaded.seeded},
        substitutions=prepared.substitutions,
        skipped_layers=compressed.skipped,
        op_counts=described.op_counts,
        capture={"method": captured.method, "failures": dict(captured.failures)},
        versions=tool_versions(),
        git=git_state(),
        started=began,
        seconds=0.0,
        seeded=loaded.seeded,
        source_bytes=sum(t.numel() * t.element_size() for t in loaded.module.state_dict().values()),
        labels=prepared.labels,
        weights=described.weights,
    )


def _capture_and_convert(
    spec: BuildSpec, prepared: PreparedModel, examples: ExampleInputs, ledger: Ledger, progress: Progress
) -> tuple[CapturedProgram, ConvertedModel]:
    """Capture and convert with the first method that does both; the reasons why others did not are kept."""
    failures: dict[str, str] = {}
    methods = methods_to_try(spec.capture.method)
    for method in methods:
        try:
            captured = ledger.run("capture", partial(capture, prepared, examples, method, failures), lambda c: c.method)
            converted = ledger.run("convert", partial(convert, prepared, captured, examples, spec), lambda c: c.said)
        except ConversionError as error:
            failures[method] = error.message
            if method == methods[-1]:
                said = error.message if len(failures) == 1 else "; ".join(f"{m}: {f}" for m, f in failures.items())
                raise ConversionError(said, hint=error.hint, key=error.key) from error
            progress.detail(f"{method}: {error.message}; trying the next method")
        else:
            return captured, converted
    raise AssertionError("methods_to_try is never empty")


def _keep_log(error: ConversionError, folder: Path, broken: Path) -> None:
    """Publish `build.log` alone, which has what coremltools said, and tell where it is."""
    for path in folder.iterdir():
        if path.name != "build.log":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    publish(folder, broken)
    said = f"all that was said is in {shown(broken / 'build.log')}"
    error.hint = said if error.hint is None else f"{error.hint}; {said}"


def _variant(requested: str, *, seeded: bool) -> str:
    if not seeded:
        return requested
    return "seeded" if requested == "default" else f"{requested},seeded"


def _missed(record: BuildRecord, outputs: Path) -> CheckError:
    missed = [f"{check.name} ({check.engine}): {check.reason}" for check in record.checks if check.passed is False]
    earlier = earlier_good_folder(outputs, record.request.recipe, record.variant)
    stale = "" if earlier is None else f"; the artifact in {earlier} is from an earlier build and now stale"
    return CheckError(
        f"{'; '.join(missed)}. The new files are in {record.artifact.path.parent}{stale}",
        record=record,
        hint="compare values and limits in its report.html; change the recipe, or the limit with a reason",
    )
