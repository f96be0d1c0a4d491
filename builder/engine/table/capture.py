"""The capture stage: the program as an archive.

Even the build that captures it goes on with what it reads back, so that what is converted does not depend on whether
the archive came from the store.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from builder.artifacts.stages import CapturedProgram
from builder.artifacts.stored import CapturedFacts
from builder.engine.run import Inputs, StageRow
from builder.engine.runner import Packed, Packing, Stage, StageTask
from builder.engine.table.prepare import PREPARE

PROGRAM = "program"
"""The name of an archive, which TorchScript writes into it."""


def _task(inputs: Inputs) -> StageTask[CapturedProgram, CapturedFacts]:
    method = inputs.run.method
    saved: list[Path] = []

    def run() -> CapturedProgram:
        from builder.stages.capture import check_other_samples

        captured = _capture(inputs, method)
        found, file = _archive(captured)
        try:
            if inputs.spec.capture.method == "auto":  # so that another method can be tried
                prepared = inputs[PREPARE].value()
                check_other_samples(prepared, captured if prepared.states else found, inputs.run.examples)
        except BaseException:
            if file is not None:
                shutil.rmtree(file.parent, ignore_errors=True)
            raise
        saved[:] = [] if file is None else [file]
        return found

    def pack(captured: CapturedProgram, packing: Packing) -> Packed[CapturedFacts]:
        from builder.model.capture.archive import program_digest

        facts = CapturedFacts(method=captured.method, frozen=captured.frozen)
        if not saved:
            return Packed(output=packing.key, facts=facts)
        file = saved.pop()
        try:
            output = program_digest(file)
            return Packed(output=output, facts=facts, objects={"program": packing.objects.put_file(file, take=True)})
        finally:
            shutil.rmtree(file.parent)

    return inputs.task(
        CapturedFacts,
        run=run,
        describe=lambda captured: captured.method,
        pack=pack,
        restore=_restore,
        after={"prepare": inputs[PREPARE].output, "method": method},
    )


def _capture(inputs: Inputs, method: str) -> CapturedProgram:
    from builder.backends.coreml.preflight.operators import MODEL
    from builder.backends.coreml.preflight.raised import Watch, trace_constants
    from builder.stages.capture import capture

    prepared = inputs[PREPARE].value()
    watch = Watch(prepared.module.get_submodule(MODEL)) if method == "trace" else None
    captured = capture(prepared, inputs.run.examples, method, {}, watch=watch)
    if watch is not None:
        captured = replace(captured, frozen=trace_constants([*watch.values, *watch.branches]))
    return captured


def _archive(captured: CapturedProgram) -> tuple[CapturedProgram, Path | None]:
    """The program as it is read back, and the archive; the program itself and None where it cannot be archived."""
    from builder.backends.coreml.patches.archives import fast_archives
    from builder.model.capture.archive import archived

    file = Path(tempfile.mkdtemp(prefix="builder-captured-")) / PROGRAM
    try:
        with fast_archives() if captured.method == "export" else nullcontext():
            found = archived(captured, file)
    except BaseException:
        shutil.rmtree(file.parent, ignore_errors=True)
        raise
    if found is None:
        shutil.rmtree(file.parent)
        return captured, None
    return replace(found, frozen=captured.frozen), file


def _restore(stage: Stage[CapturedProgram, CapturedFacts]) -> CapturedProgram:
    from builder.backends.coreml.patches.archives import fast_archives
    from builder.model.capture.archive import restored_program

    if "program" not in stage.action.objects:
        return stage.again()
    with tempfile.TemporaryDirectory(prefix="builder-captured-") as folder:
        file = Path(folder) / PROGRAM
        stage.objects.restore_file(stage.stored("program"), file)
        with fast_archives() if stage.facts.method == "export" else nullcontext():
            return restored_program(file, stage.facts.method, stage.output)


CAPTURE = StageRow(name="capture", scope="function", reads=(PREPARE,), task=_task)
