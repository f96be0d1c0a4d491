"""The story of a build on one page: every stage in order, from a request to a record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.artifacts import (
    BuildRecord,
    BuildRequest,
    CapturedProgram,
    CheckReport,
    CompressedModel,
    ConvertedModel,
    LayerWeights,
    LoadedModel,
    PreparedModel,
    SealedPackage,
    StageReport,
)
from builder.diagnosis.explain import explained
from builder.errors import CheckError, ConversionError
from builder.fastpath import cache_folder
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
from builder.progress import Bound, Progress, Silent
from builder.spec import BuildSpec
from builder.stages.choice import Choice
from builder.stages.ledger import Ledger, MissedError, Stage, StaleError
from builder.stages.methods import methods_to_try
from builder.stages.steps import Steps, compression, effects, findings, lowerings, skipped
from builder.store.actions import Store
from builder.store.digests import Remembered, artifact_digest
from builder.store.explain import Change, nearest_changes
from builder.store.keys import tool_versions

if TYPE_CHECKING:  # a cached build must not import torch
    from builder.diagnosis.obstacles import Diagnosis

STAGES = ("load", "prepare", "capture", "convert", "compress", "seal", "verify")


@dataclass(frozen=True, kw_only=True)
class Story:
    """Every stage of one build, done."""

    loaded: Stage[LoadedModel]
    prepared: Stage[PreparedModel]
    captured: Stage[CapturedProgram]
    converted: Stage[ConvertedModel]
    compressed: Stage[CompressedModel]
    sealed: Stage[SealedPackage]
    verified: Stage[tuple[CheckReport, ...]]
    failures: dict[str, str]
    """Why the methods of capture that were tried first did not work."""


def build(request: BuildRequest, *, outputs: Path, progress: Progress) -> BuildRecord:
    """Build, check, publish and record what `request` asks for; what the store has is not done again.

    Raises SourceError, ConversionError and their like when a stage fails, and CheckError, which carries the record,
    when a check misses its limit; the artifact then lies under `outputs/broken/`.
    """
    from builder.reports.files import build_logged, write_reports

    started = time.perf_counter()
    with working_folder(outputs, request.recipe, request.variant, progress=progress) as folder:
        try:
            with build_logged(folder, progress) as logged:
                record = _run_stages(request, folder, logged)
                _tell_details(record, logged)
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
        if request.spec.tracking.kind != "none":
            from builder.tracking import track

            track(record, outputs=outputs, progress=progress)  # before the next build of this variant replaces it
    if not good:
        raise _missed(record, outputs)
    return record


@dataclass(frozen=True, kw_only=True)
class Current:
    """A published artifact that is what a build would give."""

    artifact: Path
    fallback: Mapping[str, Any] | None
    """For untrained weights: how the network looked that did not give better ones."""


def current_artifact(request: BuildRequest, *, outputs: Path) -> Current | None:
    """Return the published artifact if it is what a build would give, reports included; None if one is needed."""
    from builder.reports.current import is_recorded

    published = (variant_folder(outputs, request.recipe, _variant(request.variant, seeded=s)) for s in (False, True))
    if not any(folder.is_dir() for folder in published):
        return None
    ledger = open_ledger(request, Silent(), peek=True)
    try:
        story = tell(request, Path(), ledger, Silent())
    except MissedError:
        return None
    finally:
        ledger.remembered.save()
    loaded = story.loaded.record
    folder = variant_folder(outputs, request.recipe, _variant(request.variant, seeded=loaded["seeded"]))
    artifact = folder / artifact_name(request.recipe, story.sealed.record["format"])
    if not is_recorded(folder, request, ledger.reports):
        return None
    try:
        is_whole = artifact_digest(artifact) == story.sealed.output
    except OSError:
        return None
    return Current(artifact=artifact, fallback=loaded["fallback"]) if is_whole else None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a build would do: the stages that the store has, and from the first miss on why each must run."""

    found: tuple[StageReport, ...]
    missed: Mapping[str, Sequence[Change] | None]
    """By stage: what differs from the nearest earlier result, None where there is none at all."""
    artifact: Path | None
    """The published artifact, where it is up to date."""


def plan(request: BuildRequest, *, outputs: Path, progress: Progress) -> Plan:
    """Look up every stage without running any; what follows a miss is compared by its own inputs alone."""
    ledger = open_ledger(request, progress, peek=True)
    missed: dict[str, Sequence[Change] | None] = {}
    try:
        tell(request, Path(), ledger, progress)
    except MissedError as miss:
        missed[miss.stage] = nearest_changes(ledger.store, miss.stage, miss.inputs)
        for stage in STAGES[STAGES.index(miss.stage) + 1 :]:
            missed[stage] = nearest_changes(ledger.store, stage, ledger.inputs(stage, {}))
    finally:
        ledger.remembered.save()
    current = None if missed else current_artifact(request, outputs=outputs)
    return Plan(found=ledger.reports, missed=missed, artifact=None if current is None else current.artifact)


def examine(request: BuildRequest, *, progress: Progress) -> Diagnosis:
    """Say what stands in the way of a build, without converting; raises SourceError and its like as a build does."""
    ledger = open_ledger(request, progress)
    steps = Steps(request.spec, Path(), progress)
    try:
        loaded = ledger.stage(steps.load())
        return steps.diagnose(loaded, ledger.stage(steps.prepare(loaded)))
    finally:
        ledger.remembered.save()


def seal_only(request: BuildRequest, *, folder: Path, progress: Progress) -> Story:
    """Build up to the sealed artifact, which lies in `folder` then, without any check; nothing is published."""
    unchecked = replace(request, spec=request.spec.model_copy(update={"checks": {}}))
    while True:
        ledger = open_ledger(unchecked, progress)
        try:
            story = tell(unchecked, folder, ledger, progress)
            for stage in (story.prepared, story.converted, story.compressed, story.sealed):
                stage.value()  # of a stage that is run again, here where another result can be dealt with
            return story
        except StaleError as error:
            progress.detail(f"{error} gave something else than before: starting over")
        finally:
            ledger.remembered.save()


def open_ledger(request: BuildRequest, progress: Progress, *, peek: bool = False) -> Ledger:
    """Return a ledger over the user's store."""
    cache = Path(cache_folder())
    remembered = Remembered(cache / "remembered.json")
    return Ledger(request.spec, progress, Store(cache / "store", progress), remembered, peek=peek)


def tell(request: BuildRequest, folder: Path, ledger: Ledger, progress: Progress) -> Story:
    """Go through the stages in their order; each is found in the store or run."""
    steps = Steps(request.spec, folder / artifact_name(request.recipe, request.spec.format), progress)
    loaded = ledger.stage(steps.load())
    prepared = ledger.stage(steps.prepare(loaded))
    captured, converted, failures = _capture_and_convert(request, steps, loaded, prepared, ledger, progress)
    compressed = ledger.stage(steps.compress(prepared, converted))
    sealed = ledger.stage(steps.seal(compressed, loaded))
    size = float(sealed.record["size_bytes"])
    progress.bound(lambda: {"artifact.bytes": Bound(at_least=size, at_most=size)})
    verified = ledger.stage(steps.verify(prepared, captured, sealed))
    return Story(
        loaded=loaded,
        prepared=prepared,
        captured=captured,
        converted=converted,
        compressed=compressed,
        sealed=sealed,
        verified=verified,
        failures=failures,
    )


def _run_stages(request: BuildRequest, folder: Path, progress: Progress) -> BuildRecord:
    began = datetime.now(UTC).isoformat(timespec="seconds")
    while True:
        ledger = open_ledger(request, progress)
        ledger.store.tidy()
        try:
            return _record(request, tell(request, folder, ledger, progress), ledger, began)
        except StaleError as error:  # its result is dropped, so this ends
            progress.detail(f"{error} gave something else than before: starting over")
        finally:
            ledger.remembered.save()


def _file_name(spec: BuildSpec, origin: Mapping[str, Any]) -> dict[str, str]:
    """What the recipe calls the source's file: the store knows its content, whatever it was called before."""
    named = getattr(spec.source, "file", None) or getattr(spec.source, "folder", None)
    return {"file": Path(named).name} if named is not None and "file" in origin else {}


def _record(request: BuildRequest, story: Story, ledger: Ledger, began: str) -> BuildRecord:
    from builder.lint.inspect import accepted

    loaded, prepared, sealed = story.loaded.record, story.prepared.record, story.sealed.record
    checks, artifact = story.verified.value(), story.sealed.value()
    reports, modules = ledger.reports, story.converted.record["modules"]
    return BuildRecord(
        request=request,
        variant=_variant(request.variant, seeded=loaded["seeded"]),
        status="broken" if any(check.passed is False for check in checks) else "built",
        key=reports[-2].key,
        artifact=artifact,
        stages=reports,
        checks=checks,
        inputs=tuple(sealed["inputs"]),
        outputs=tuple(sealed["outputs"]),
        source={**loaded["origin"], **_file_name(request.spec, loaded["origin"]), "seeded": loaded["seeded"]},
        substitutions=effects(prepared),
        lowerings=lowerings(story.converted.record),
        compression=compression(prepared) + compression(story.compressed.record),
        skipped_layers=skipped(prepared) + skipped(story.compressed.record),
        op_counts=sealed["op_counts"],
        capture={"method": story.captured.record["method"], "failures": story.failures},
        versions=tool_versions(),
        git=git_state(),
        started=began,
        seconds=0.0,
        seeded=loaded["seeded"],
        fallback=loaded["fallback"],
        source_bytes=loaded["source_bytes"],
        labels=None if prepared["labels"] is None else tuple(prepared["labels"]),
        weights=tuple(
            LayerWeights(**{**entry, "module": modules.get(entry["output"], "")}) for entry in sealed["weights"]
        ),
        lint=accepted(findings(sealed), request.spec.lint.ignore),
    )


def _capture_and_convert(
    request: BuildRequest,
    steps: Steps,
    loaded: Stage[LoadedModel],
    prepared: Stage[PreparedModel],
    ledger: Ledger,
    progress: Progress,
) -> tuple[Stage[CapturedProgram], Stage[ConvertedModel], dict[str, str]]:
    """Capture and convert with the first method that does both; the reasons why others did not are kept.

    The store also knows which method that was, so that methods that fail are not tried in every build.
    """
    choice = Choice(request, prepared, ledger)
    methods, failures = choice.recall() or (methods_to_try(request.spec), {})
    for method in methods:
        try:
            captured = ledger.stage(steps.capture(prepared, method))
            converted = ledger.stage(steps.convert(prepared, captured))
        except ConversionError as error:
            failures[method] = error.message
            if method == methods[-1]:
                raise explained(error, failures, lambda: steps.diagnose(loaded, prepared), progress) from error
            progress.detail(f"{method}: {error.message}; trying the next method")
        else:
            choice.remember(method, failures)
            return captured, converted, failures
    raise AssertionError("methods_to_try is never empty")


def _tell_details(record: BuildRecord, progress: Progress) -> None:
    """What only `-v` and the log show: every replacement, every weight left alone, every value of every check."""
    for effect in record.substitutions:
        progress.detail(f"substitution {effect.name}: {', '.join(effect.replaced) or 'nothing'} replaced")
        progress.detail(f"substitution {effect.name}: outputs changed by at most {effect.max_abs:.3g}")
    for lowering in record.lowerings:
        progress.detail(f"lowering {lowering.operator}: {lowering.times} converted by ours; {lowering.why}")
    for finding in record.lint:
        progress.detail(f"lint {finding.rule} ({finding.confidence}), {finding.count} times: {finding.examples[0]}")
    for layer in record.skipped_layers:
        progress.detail(f"compression {layer.step} left {layer.name} alone: {layer.reason}")
    for check in record.checks:
        for name, value in check.values.items():
            progress.detail(f"check {check.name} ({check.engine}): {name} {value}")


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
