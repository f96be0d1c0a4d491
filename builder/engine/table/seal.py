"""The seal stage: the artifact on disk, and what it declares of itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.artifacts.stages import PreparedFacts, SealedPackage, Suppression
from builder.artifacts.stored import SealedFacts
from builder.backends.interface import Backend
from builder.engine.run import Inputs, Run, StageRow
from builder.engine.runner import Packed, Packing, Stage, StageTask
from builder.engine.table.compress import COMPRESS
from builder.engine.table.convert import CONVERT
from builder.engine.table.load import LOAD
from builder.engine.table.prepare import PREPARE, names_digest
from builder.progress import Bound
from builder.spec.functions import labelled
from builder.store.digests import digest_of_files
from builder.store.objects import CorruptError


def _task(inputs: Inputs) -> StageTask[SealedPackage, SealedFacts]:
    backend, artifact = inputs.run.backend, inputs.run.context.artifact
    compressed = inputs.by_function(COMPRESS)
    seeded = inputs[LOAD].facts.seeded
    behind = _detector_stage(inputs[PREPARE].facts)

    def run() -> SealedPackage:
        _remove(artifact)  # half a restored one, where the store turned out to be damaged
        models = {name: stage.value() for name, stage in compressed.items()}
        return backend.seal(models, inputs.spec, artifact, seeded=seeded, behind=behind)

    def restore(stage: Stage[SealedPackage, SealedFacts]) -> SealedPackage:
        _remove(artifact)
        _restore_files(stage, artifact)
        if (reason := backend.why_refused(artifact)) is not None:
            raise CorruptError(f"the artifact does not open: {reason}")
        return sealed_package(stage, artifact)

    after = {labelled("compress", name): stage.output for name, stage in compressed.items()}
    after["seeded"] = str(seeded)
    if behind is not None:
        after["names and labels"] = names_digest(inputs[PREPARE])
    return inputs.task(
        SealedFacts,
        run=run,
        describe=describe_sealed,
        pack=lambda sealed, packing: _pack(backend, sealed, packing),
        restore=restore,
        after=after,
    )


def _pack(backend: Backend, sealed: SealedPackage, packing: Packing) -> Packed[SealedFacts]:
    from builder.analysis.neural_engine.inspect import examine

    described, examined = backend.describe(sealed.path), examine(sealed.path)
    facts = SealedFacts(
        format=sealed.format,
        size_bytes=sealed.size_bytes,
        semantic_digest=sealed.semantic_digest,
        inputs=described.inputs,
        outputs=described.outputs,
        functions=described.functions,
        op_counts=described.op_counts,
        weights=described.weights,
        lint=examined.findings,
        costs=examined.costs,
    )
    if sealed.path.is_dir():
        objects = {"artifact/": packing.objects.put_folder(sealed.path)}
    else:
        objects = {"artifact": packing.objects.put_file(sealed.path)}
    return Packed(output=sealed.digest, facts=facts, objects=objects)


def _restore_files(stage: Stage[SealedPackage, SealedFacts], place: Path) -> None:
    """Write the artifact of a stored result; raises CorruptError where it is another one than the result says."""
    if "artifact/" in stage.action.objects:
        manifest = stage.stored("artifact/")
        files = {name: digest for name, digest in stage.objects.read_manifest(manifest).items() if digest}
        digest = digest_of_files(files) if files else ""
    else:
        manifest = digest = stage.stored("artifact")
    if digest != stage.output:
        raise CorruptError("the artifact is another one than the result says")
    if "artifact/" in stage.action.objects:
        stage.objects.restore_folder(manifest, place)
    else:
        stage.objects.restore_file(manifest, place)


def _detector_stage(prepared: PreparedFacts) -> tuple[Suppression, tuple[str, ...]] | None:
    """What stands behind a detector's program, and the labels of its classes."""
    return None if prepared.suppression is None else (prepared.suppression, prepared.labels or ())


def _release_models(run: Run, sealed: Stage[SealedPackage, SealedFacts]) -> None:
    """Let go of the models in memory: checks look at the file, and of a large model these are gigabytes."""
    held = run.first[COMPRESS].held
    run.between = None if held is None else held.between
    for function in run.functions.values():
        function[CONVERT].forget()
        function[COMPRESS].forget()
    size = float(sealed.facts.size_bytes)
    run.context.progress.bound(lambda: {"artifact.bytes": Bound(at_least=size, at_most=size)})


SEAL = StageRow(name="seal", scope="build", reads=(LOAD, PREPARE, COMPRESS), task=_task, then=_release_models)


def sealed_package(stage: Stage[SealedPackage, SealedFacts], path: Path) -> SealedPackage:
    """The description of a sealed artifact that lies, or will lie, at `path`."""
    facts = stage.facts
    return SealedPackage(
        path=path,
        format=facts.format,
        digest=stage.output,
        size_bytes=facts.size_bytes,
        semantic_digest=facts.semantic_digest,
    )


def describe_sealed(sealed: SealedPackage) -> str:
    """One line for people."""
    return f"{sealed.size_bytes / 1e6:.1f} MB, {sealed.digest[:19]}…"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
