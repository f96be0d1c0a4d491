"""The result of a build on one page: every stage in order, from a request to a record."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.analysis.preflight.explain import explained
from builder.artifacts import (
    AutoResult,
    BuildRecord,
    BuildRequest,
    CapturedProgram,
    ConvertedModel,
    LoadedModel,
    PreparedModel,
)
from builder.auto.decided import resolve_auto
from builder.backends import backend_of
from builder.engine.branch import Branch
from builder.engine.capture_method import CaptureMethodMemo
from builder.engine.failure import with_log
from builder.engine.records import sealed_package
from builder.engine.result import BuildResult, log_details, make_record
from builder.engine.runner import Stage, StageRunner, UnstableStageError
from builder.engine.sensitivity import sensitivity
from builder.engine.stage_table import Steps
from builder.engine.stored import is_readable
from builder.errors import ConversionError
from builder.model.capture.methods import methods_to_try
from builder.noop import cache_folder
from builder.progress import Bound, Progress, Silent
from builder.spec import BuildSpec
from builder.spec.functions import specs_by_function
from builder.stages.measure import is_measured, measure
from builder.store.actions import Store
from builder.store.digests import StatCache
from builder.util.paths import (
    artifact_name,
    broken_folder,
    carry_over,
    publish,
    refuse_foreign,
    variant_folder,
    working_folder,
)

if TYPE_CHECKING:  # a cached build must not import torch
    from builder.backends.coreml.preflight.obstacles import Diagnosis

STAGES = ("load", "prepare", "capture", "convert", "compress", "seal", "verify")


def stages_of(spec: BuildSpec) -> tuple[str, ...]:
    """The stages of a build in their order: what says `auto` is decided as soon as there is a model.

    Where a compression is still to be decided, nobody knows whether there will be steps to measure.
    """
    stages = (*STAGES[:2], "choose", *STAGES[2:]) if spec.is_open else STAGES
    return (*stages, "measure") if is_measured(spec) else stages


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
                record = _run_stages(request, folder, logged)
                log_details(record, logged)
        except ConversionError as error:
            raise with_log(error, folder, broken_folder(outputs, request.recipe, request.variant)) from error
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
            progress.warn(f"kept beside the artifact, since no build made it: {', '.join(kept)}")
        publish(folder, final)
        if request.spec.tracking.kind != "none":
            from builder.tracking import track

            track(record, outputs=outputs, progress=progress)  # before the next build of this variant replaces it
    return record


def examine(request: BuildRequest, *, progress: Progress) -> Diagnosis:
    """Say what prevents a build, without converting; raises SourceError and its like as a build does."""
    runner = open_runner(request, progress)
    steps = Steps(request.spec, Path(), progress)
    try:
        loaded = runner.stage(steps.load())
        return steps.diagnose(loaded, runner.stage(steps.prepare(loaded)))
    finally:
        runner.remembered.save()


def seal_only(request: BuildRequest, *, folder: Path, progress: Progress) -> BuildResult:
    """Build up to the sealed artifact, which lies in `folder` then, without any check; nothing is published."""
    while True:
        runner = open_runner(request, progress)
        try:
            result = run_stages(request, folder, runner, progress, checked=False)
            for branch in result.branches.values():
                for stage in (branch.prepared, branch.converted, branch.compressed):
                    stage.value()  # of a stage that is run again, here where another result can be dealt with
            result.sealed.value()
            return result
        except UnstableStageError as error:
            progress.detail(f"{error} gave something else than before: starting over")
        finally:
            runner.remembered.save()


def try_out(request: BuildRequest, *, folder: Path) -> BuildResult:
    """Build and check, in `folder`, without a word; nothing is published, and missed limits are in the reports."""
    while True:
        runner = open_runner(request, Silent())
        steps = Steps(request.spec, Path(), Silent())
        try:
            result = _run_from_prepared(request, folder, runner, Silent(), runner.stage(steps.load()), None)
            result.verified.value()
            return result
        except UnstableStageError:
            continue
        finally:
            runner.remembered.save()


def open_runner(request: BuildRequest, progress: Progress, *, peek: bool = False) -> StageRunner:
    """Return a runner over the user's store."""
    cache = Path(cache_folder())
    remembered = StatCache(cache / "remembered.json")
    return StageRunner(
        request.spec, progress, Store(cache / "store", progress, is_readable=is_readable), remembered, peek=peek
    )


def find_choice(request: BuildRequest, *, progress: Progress) -> AutoResult:
    """What `auto` of a request stands for: from the store, or found now; nothing is built for the user."""
    while True:
        runner = open_runner(request, progress)
        steps = Steps(request.spec, Path(), progress)
        try:
            loaded = runner.stage(steps.load())
            return _choose(request, loaded, runner.stage(steps.prepare(loaded)), runner, progress).value()
        except UnstableStageError as error:
            progress.detail(f"{error} gave something else than before: starting over")
        finally:
            runner.remembered.save()


def run_stages(
    request: BuildRequest, folder: Path, runner: StageRunner, progress: Progress, *, checked: bool = True
) -> BuildResult:
    """Go through the stages in their order; each is found in the store or run. Unless `checked`, without any check."""
    steps = Steps(request.spec, Path(), progress)
    loaded = runner.stage(steps.load())
    prepared = chosen = None
    if request.spec.is_open:
        prepared = runner.stage(steps.prepare(loaded))
        chosen = _choose(request, loaded, prepared, runner, progress)
        request = replace(request, spec=resolve_auto(request.spec, chosen.record))
    if not checked:
        request = replace(request, spec=request.spec.model_copy(update={"checks": {}}))
    runner.decide(request.spec)
    return replace(_run_from_prepared(request, folder, runner, progress, loaded, prepared, last=True), chosen=chosen)


def _choose(
    request: BuildRequest,
    loaded: Stage[LoadedModel],
    prepared: Stage[PreparedModel],
    runner: StageRunner,
    progress: Progress,
) -> Stage[AutoResult]:
    """What `auto` stands for, by builds of the same model that the store keeps like all others."""

    def run() -> AutoResult:
        from builder.auto.choose import choose

        with tempfile.TemporaryDirectory(prefix="builder-choose-") as room:

            def attempt(spec: BuildSpec) -> BuildResult:
                folder, inner = Path(tempfile.mkdtemp(dir=room)), replace(request, spec=spec)
                inner_runner = open_runner(inner, Silent())
                try:
                    return _run_from_prepared(inner, folder, inner_runner, Silent(), loaded, prepared)
                finally:
                    inner_runner.remembered.save()

            def keep(after: Mapping[str, str], measure: Callable[[], dict[str, Any]]) -> Mapping[str, Any]:
                return open_runner(request, Silent()).stage(sensitivity(after, measure)).value()

            return choose(request.spec, attempt, keep, progress)

    return runner.stage(Steps(request.spec, Path(), progress).choose(prepared, run))


def _run_from_prepared(
    request: BuildRequest,
    folder: Path,
    runner: StageRunner,
    progress: Progress,
    loaded: Stage[LoadedModel],
    prepared: Stage[PreparedModel] | None,
    *,
    last: bool = False,
) -> BuildResult:
    """What follows when nothing is open any more; `prepared` where that is done.

    Only in the `last` of several that are tried it is measured what each step costs.
    """
    steps = Steps(request.spec, folder / artifact_name(request.recipe, request.spec.format), progress)
    branches = {
        function: _branch(replace(request, spec=spec), loaded, prepared, runner.of_function(function, spec), progress)
        for function, spec in specs_by_function(request.spec).items()
    }
    first = next(iter(branches.values()))
    sealed = runner.stage(steps.seal(first.prepared, {name: b.compressed for name, b in branches.items()}, loaded))
    between = None if first.compressed.held is None else first.compressed.held.between
    for branch in branches.values():  # checks look at the file: of a large model these are gigabytes
        branch.converted.forget()
        branch.compressed.forget()
    size = float(sealed.record["size_bytes"])
    progress.bound(lambda: {"artifact.bytes": Bound(at_least=size, at_most=size)})
    verified = runner.stage(steps.verify(branches, sealed))
    measured = None
    if last and is_measured(first.spec):
        work = measure(first, between, sealed_package(sealed, Path()), progress)
        measured = runner.of_function("", first.spec).stage(work)
    return BuildResult(
        spec=request.spec,
        loaded=loaded,
        chosen=None,
        branches=branches,
        sealed=sealed,
        verified=verified,
        measured=measured,
    )


def _branch(
    request: BuildRequest,
    loaded: Stage[LoadedModel],
    prepared: Stage[PreparedModel] | None,
    runner: StageRunner,
    progress: Progress,
) -> Branch:
    """From the loaded model to a compressed program: of the artifact, or of one of its functions."""
    steps = Steps(request.spec, Path(), progress)
    prepared = prepared or runner.stage(steps.prepare(loaded))
    captured, converted, failures = _capture_and_convert(request, steps, loaded, prepared, runner, progress)
    compressed = runner.stage(steps.compress(prepared, converted))
    return Branch(
        spec=request.spec,
        prepared=prepared,
        captured=captured,
        converted=converted,
        compressed=compressed,
        failures=failures,
    )


def _run_stages(request: BuildRequest, folder: Path, progress: Progress) -> BuildRecord:
    began = datetime.now(UTC).isoformat(timespec="seconds")
    while True:
        runner = open_runner(request, progress)
        runner.store.tidy()
        try:
            return make_record(request, run_stages(request, folder, runner, progress), runner.reports, began)
        except UnstableStageError as error:  # its result is dropped, so this ends
            progress.detail(f"{error} gave something else than before: starting over")
        finally:
            runner.remembered.save()


def _capture_and_convert(
    request: BuildRequest,
    steps: Steps,
    loaded: Stage[LoadedModel],
    prepared: Stage[PreparedModel],
    runner: StageRunner,
    progress: Progress,
) -> tuple[Stage[CapturedProgram], Stage[ConvertedModel], dict[str, str]]:
    """Capture and convert with the first method that does both; the reasons why others did not are kept.

    The store also knows which method that was, so that methods that fail are not tried in every build.
    """
    choice = CaptureMethodMemo(request, prepared, runner)
    methods, failures = choice.recall() or (methods_to_try(request.spec), {})
    for method in methods:
        try:
            captured = runner.stage(steps.capture(prepared, method))
            converted = runner.stage(steps.convert(prepared, captured))
        except ConversionError as error:
            failures[method] = error.message
            if method == methods[-1]:
                raise explained(error, failures, lambda: steps.diagnose(loaded, prepared), progress) from error
            progress.detail(f"{method}: {error.message}; trying the next method")
        else:
            choice.remember(method, failures)
            _warn_of_frozen(captured.record["frozen"], progress)
            return captured, converted, failures
    raise AssertionError("methods_to_try is never empty")


def _warn_of_frozen(frozen: Sequence[str], progress: Progress) -> None:
    if frozen:
        rest = f", and in {len(frozen) - 1} more places" if len(frozen) > 1 else ""
        progress.warn(
            f"the trace takes for good, for every input, {frozen[0]}{rest}: `capture.method=script` keeps branches and "
            "loops, and `doctor` names all places"
        )
