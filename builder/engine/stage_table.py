"""Each stage as the runner takes it: how to run it, what the store keeps of it, how to take that out again.

Nothing heavy is imported before a stage runs.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from builder.artifacts import (
    AutoResult,
    CapturedProgram,
    CheckReport,
    CompressedModel,
    ConvertedModel,
    ExampleInputs,
    LoadedModel,
    PreparedModel,
    Preprocessing,
    SealedPackage,
)
from builder.backends import backend_of
from builder.engine.branch import Branch
from builder.engine.records import (
    RestoredPreparedModel,
    compression,
    detector_stage,
    lowerings,
    names_digest,
    pack_model,
    prepared_record,
    restore_artifact,
    sealed_package,
    skipped,
    unpack_model,
)
from builder.engine.runner import Packed, Packing, Stage, StageTask
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.spec.functions import labelled
from builder.store.digests import digest_of
from builder.store.fallback import evidence
from builder.store.inputs import spec_view
from builder.store.objects import CorruptError

if TYPE_CHECKING:
    from builder.analysis.headroom.analyse import Place
    from builder.backends.coreml.preflight.obstacles import Diagnosis

PROGRAM = "program"
"""The name of an archive, which TorchScript writes into it."""
_LABELS = ("spec classifier.labels", "file classifier.labels", "spec detection.labels", "file detection.labels")
"""Inputs of the prepare stage that change no module."""


class Steps:
    """The stages of one build, or of one function of it."""

    def __init__(self, spec: BuildSpec, artifact: Path, progress: Progress) -> None:
        self._spec = spec
        self._artifact = artifact
        self._progress = progress
        self._began = time.perf_counter()
        self._examples = cache(self._make_examples)
        self._backend = backend_of(spec.format)

    def _make_examples(self) -> ExampleInputs:
        from builder.data import make_examples

        return make_examples(spec_view("load", self._spec))

    def load(self) -> StageTask[LoadedModel]:
        """The source's module; of it the store keeps what is known about it."""

        def run() -> LoadedModel:
            from builder.stages.load import load

            return load(spec_view("load", self._spec), self._examples(), self._progress)

        def say(loaded: LoadedModel) -> str:
            from builder.stages.load import describe_load

            return describe_load(loaded)

        def pack(loaded: LoadedModel, packing: Packing) -> Packed:
            tensors = loaded.module.state_dict().values()
            known = {
                "digest": loaded.digest,
                "origin": dict(loaded.origin),
                "seeded": loaded.seeded,
                "preprocessing": None if loaded.preprocessing is None else asdict(loaded.preprocessing),
                "labels": loaded.labels,
                "source_bytes": sum(t.numel() * t.element_size() for t in tensors if hasattr(t, "numel")),
            }
            # A file counts by its content: under another name it is the same source.
            origin = {name: value for name, value in loaded.origin.items() if name != "file"}
            output = digest_of({"key": packing.key, **known, "origin": origin})
            return Packed(
                output=output, record={**known, "fallback": evidence(loaded.origin) if loaded.seeded else None}
            )

        return StageTask(name="load", run=run, say=say, pack=pack, unpack=lambda stage: stage.again())

    def prepare(self, loaded: Stage[LoadedModel]) -> StageTask[PreparedModel]:
        """The substituted module; of it the store keeps names, labels, normalisation and effects."""

        def run() -> PreparedModel:
            from builder.model.cautions import cautions
            from builder.stages.prepare import prepare

            spec = spec_view("prepare", self._spec)
            prepared = prepare(loaded.value(), self._examples(), spec)
            for caution in cautions(prepared, self._examples(), spec):
                self._progress.warn(caution)
            return prepared

        def say(prepared: PreparedModel) -> str:
            from builder.stages.prepare import describe_prepared

            return describe_prepared(prepared)

        def pack(prepared: PreparedModel, packing: Packing) -> Packed:
            inputs = {name: value for name, value in packing.inputs.items() if not name.startswith(_LABELS)}
            return Packed(output=digest_of({"stage": "prepare", "inputs": inputs}), record=prepared_record(prepared))

        def unpack(stage: Stage[PreparedModel]) -> PreparedModel:
            return cast(PreparedModel, RestoredPreparedModel(stage.record, stage.again))

        return StageTask(name="prepare", run=run, say=say, pack=pack, unpack=unpack, after={"load": loaded.output})

    def choose(self, prepared: Stage[PreparedModel], run: Callable[[], AutoResult]) -> StageTask[AutoResult]:
        """What `auto` stands for; `run` finds it, by builds of its own."""
        from builder.engine.auto_stage import pack_chosen, unpack_chosen

        after = {"prepare": prepared.output, "names and labels": names_digest(prepared)}
        return StageTask(
            name="choose", run=run, say=lambda c: c.said, pack=pack_chosen, unpack=unpack_chosen, after=after
        )

    def capture(self, prepared: Stage[PreparedModel], method: str) -> StageTask[CapturedProgram]:
        """The program as an archive. Even the build that captures it goes on with what it reads back.

        So what is converted does not depend on whether the archive came from the store.
        """
        saved: list[Path] = []

        def run() -> CapturedProgram:
            from builder.backends.coreml.preflight.operators import MODEL
            from builder.backends.coreml.preflight.raised import Watch, trace_constants
            from builder.model.capture.archive import archived
            from builder.stages.capture import capture

            strict = self._spec.capture.method == "auto"
            watch = Watch(prepared.value().module.get_submodule(MODEL)) if method == "trace" else None
            captured = capture(prepared.value(), self._examples(), method, {}, strict=strict, watch=watch)
            if watch is not None:
                captured = replace(captured, frozen=trace_constants([*watch.values, *watch.branches]))
            file = Path(tempfile.mkdtemp(prefix="builder-captured-")) / PROGRAM
            try:
                found = archived(captured, file)
            except BaseException:
                shutil.rmtree(file.parent, ignore_errors=True)
                raise
            if found is None:
                shutil.rmtree(file.parent)
                return captured
            saved[:] = [file]
            return replace(found, frozen=captured.frozen)

        def pack(captured: CapturedProgram, packing: Packing) -> Packed:
            from builder.model.capture.archive import program_digest

            record = {"method": captured.method, "frozen": captured.frozen}
            if not saved:
                return Packed(output=packing.key, record=record)
            file = saved.pop()
            try:
                objects = {"program": packing.objects.put_file(file)}
                return Packed(output=program_digest(file), record=record, objects=objects)
            finally:
                shutil.rmtree(file.parent)

        def unpack(stage: Stage[CapturedProgram]) -> CapturedProgram:
            from builder.model.capture.archive import restored_program

            if "program" not in stage.action.objects:
                return stage.again()
            with tempfile.TemporaryDirectory(prefix="builder-captured-") as folder:
                file = Path(folder) / PROGRAM
                stage.objects.restore_file(stage.stored("program"), file)
                return restored_program(file, stage.record["method"], stage.output)

        after = {"prepare": prepared.output, "method": method}
        return StageTask(name="capture", run=run, say=lambda c: c.method, pack=pack, unpack=unpack, after=after)

    def convert(self, prepared: Stage[PreparedModel], captured: Stage[CapturedProgram]) -> StageTask[ConvertedModel]:
        """The model in the backend's own form, before compression."""

        def run() -> ConvertedModel:
            self._backend.refuse(captured.value())
            spec = spec_view("convert", self._spec)
            return self._backend.convert(prepared.value(), captured.value(), self._examples(), spec)

        def pack(converted: ConvertedModel, packing: Packing) -> Packed:
            record = {"lowerings": [asdict(used) for used in converted.lowerings], "modules": dict(converted.modules)}
            return pack_model(self._backend, converted.model, record, packing)

        def unpack(stage: Stage[ConvertedModel]) -> ConvertedModel:
            model, record = unpack_model(self._backend, stage), stage.record
            return ConvertedModel(
                model=model, lowerings=lowerings(record), said=stage.action.line, modules=record["modules"]
            )

        after = {"capture": captured.output, "names and labels": names_digest(prepared)}
        return StageTask(name="convert", run=run, say=lambda c: c.said, pack=pack, unpack=unpack, after=after)

    def diagnose(self, loaded: Stage[LoadedModel], prepared: Stage[PreparedModel]) -> Diagnosis:
        """What prevents a conversion; no stage, since nothing follows from it that a store could keep."""
        from builder.engine.diagnose import PreflightInput, diagnose

        return diagnose(
            PreflightInput(loaded=loaded.value(), prepared=prepared.value(), examples=self._examples(), spec=self._spec)
        )

    def compress(self, prepared: Stage[PreparedModel], converted: Stage[ConvertedModel]) -> StageTask[CompressedModel]:
        """The model after compression; calibration prepares pictures as the weights say."""
        said = prepared.record["preprocessing"]
        published = None if said is None else Preprocessing(**said)

        def run() -> CompressedModel:
            spec = spec_view("compress", self._spec)
            return self._backend.compress(converted.value(), spec, self._progress, published=published)

        def pack(compressed: CompressedModel, packing: Packing) -> Packed:
            record = {
                "compression": [asdict(effect) for effect in compressed.effects],
                "skipped": [asdict(layer) for layer in compressed.skipped],
            }
            return pack_model(self._backend, compressed.model, record, packing)

        def unpack(stage: Stage[CompressedModel]) -> CompressedModel:
            return CompressedModel(
                model=unpack_model(self._backend, stage),
                effects=compression(stage.record),
                skipped=skipped(stage.record),
                said=stage.action.line,
            )

        after = {"convert": converted.output, "published preparation": digest_of(said)}
        return StageTask(name="compress", run=run, say=lambda c: c.said, pack=pack, unpack=unpack, after=after)

    def seal(
        self,
        prepared: Stage[PreparedModel],
        compressed: Mapping[str, Stage[CompressedModel]],
        loaded: Stage[LoadedModel],
    ) -> StageTask[SealedPackage]:
        """The artifact on disk, and what it declares of itself; `compressed` is by function.

        Of a detector, which has one function, its last stage too: `prepared` knows it.
        """
        seeded = bool(loaded.record["seeded"])

        def run() -> SealedPackage:
            _remove(self._artifact)  # half a restored one, where the store turned out to be damaged
            models = {name: stage.value() for name, stage in compressed.items()}
            spec, behind = spec_view("seal", self._spec), detector_stage(prepared)
            return self._backend.seal(models, spec, self._artifact, seeded=seeded, behind=behind)

        def pack(sealed: SealedPackage, packing: Packing) -> Packed:
            from builder.analysis.neural_engine.inspect import lint

            described = self._backend.describe(sealed.path)
            record = {
                "format": sealed.format,
                "size_bytes": sealed.size_bytes,
                "semantic_digest": sealed.semantic_digest,
                "inputs": described.inputs,
                "outputs": described.outputs,
                "functions": described.functions,
                "op_counts": described.op_counts,
                "weights": [asdict(layer) for layer in described.weights],
                "lint": [asdict(finding) for finding in lint(sealed.path)],
            }
            if sealed.path.is_dir():
                objects = {"artifact/": packing.objects.put_folder(sealed.path)}
            else:
                objects = {"artifact": packing.objects.put_file(sealed.path)}
            return Packed(output=sealed.digest, record=record, objects=objects)

        def unpack(stage: Stage[SealedPackage]) -> SealedPackage:
            _remove(self._artifact)
            restore_artifact(stage, self._artifact)
            if (reason := self._backend.why_refused(self._artifact)) is not None:
                raise CorruptError(f"the artifact does not open: {reason}")
            return sealed_package(stage, self._artifact)

        after = {labelled("compress", name): stage.output for name, stage in compressed.items()}
        after["seeded"] = str(seeded)
        if detector_stage(prepared) is not None:
            after["names and labels"] = names_digest(prepared)
        return StageTask(name="seal", run=run, say=describe_sealed, pack=pack, unpack=unpack, after=after)

    def verify(
        self, branches: Mapping[str, Branch], sealed: Stage[SealedPackage]
    ) -> StageTask[tuple[CheckReport, ...]]:
        """The verdicts of all checks; those that missed a limit are not stored. `branches` are by function."""

        def run() -> tuple[CheckReport, ...]:
            from builder.stages.verify import verify

            if not self._spec.checks:  # so no program need be read
                return ()
            programs = {name: branch.program(spec_view("verify", branch.spec)) for name, branch in branches.items()}
            seconds = time.perf_counter() - self._began
            return verify(programs, sealed.value(), self._progress, build_seconds=seconds, places=_places(branches))

        def say(reports: tuple[CheckReport, ...]) -> str:
            from builder.stages.verify import describe_checks

            return describe_checks(reports)

        from builder.engine.verdicts import pack_reports, unpack_reports

        after = {"seal": sealed.output}
        for name, branch in branches.items():
            after[labelled("prepare", name)] = branch.prepared.output
            after[labelled("names and labels", name)] = names_digest(branch.prepared)
            after[labelled("capture", name)] = branch.captured.output
        return StageTask(
            name="verify",
            run=run,
            say=say,
            pack=pack_reports,
            unpack=unpack_reports,
            after=after,
            keep=lambda reports: all(report.passed is not False for report in reports),
        )


def _places(branches: Mapping[str, Branch]) -> Mapping[str, Mapping[str, Place]]:
    """By function and value, where the operator that computes it comes from."""
    from builder.analysis.headroom.analyse import Place

    return {
        name: {value: Place(module=module) for value, module in branch.converted.record["modules"].items()}
        for name, branch in branches.items()
    }


def describe_sealed(sealed: SealedPackage) -> str:
    """One line for people."""
    return f"{sealed.size_bytes / 1e6:.1f} MB, {sealed.digest[:19]}…"


def _remove(path: Path) -> None:
    import shutil

    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
