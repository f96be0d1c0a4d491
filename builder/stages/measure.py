"""The measure stage: what conversion and each compression step cost; `builder.checks.steps` measures it.

Only builds with steps on the program and a parity check, which says on which samples, have this stage. It decides
nothing, and comes last.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builder.artifacts import CapturedProgram, Conversion, MeasuredSteps, SealedPackage
from builder.artifacts.effects import worst_change
from builder.backends import backend_of
from builder.engine.branch import Branch
from builder.engine.records import names_digest
from builder.engine.runner import Packed, StageTask
from builder.progress import Progress
from builder.spec import BuildSpec
from builder.store.inputs import spec_view


def is_measured(spec: BuildSpec) -> bool:
    """Whether a build has steps to measure, and a check that says on what."""
    return bool(spec.program_compression and spec.measured_checks)


def measure(
    branch: Branch, between: Sequence[Any] | None, sealed: SealedPackage, progress: Progress
) -> StageTask[MeasuredSteps | None]:
    """The costs of a branch's steps; `between` is what all steps but the last made, None where that is not at hand."""
    spec = branch.spec

    def run() -> MeasuredSteps | None:
        from builder.checks.steps import measure_steps
        from builder.checks.subject import Subject
        from builder.runtime.errors import RuntimeFailure

        subject = Subject(
            spec=spec_view("measure", spec),
            prepared=branch.prepared.value(),
            captured=CapturedProgram(program=None, method=branch.captured.record["method"]),  # nothing looks at it
            sealed=sealed,
            progress=progress,
        )
        inner = between
        if inner is None and len(spec.program_compression) > 1:
            inner = branch.compressed.again().between
        first, last = branch.converted.value().model, branch.compressed.value().model
        with tempfile.TemporaryDirectory(prefix="builder-measure-") as folder:
            file = backend_of(spec.format).program_file
            programs = [file(first, Path(folder) / "first"), *(p.path for p in inner or ()), file(last, Path(folder))]
            try:
                return measure_steps(subject, programs)
            except RuntimeFailure as error:
                progress.warn(f"what each compression step costs is not known: it cannot be executed: {error}")
                return None
            finally:
                branch.converted.forget()
                branch.compressed.forget()

    after = {
        "prepare": branch.prepared.output,
        "names and labels": names_digest(branch.prepared),
        "convert": branch.converted.output,
        "compress": branch.compressed.output,
    }
    names = tuple(spec.program_compression)
    return StageTask(
        name="measure",
        run=run,
        say=lambda measured: _said(names, measured),
        pack=lambda measured, packing: Packed(output=packing.key, record=_record(measured)),
        unpack=lambda stage: measured_steps(stage.record),
        after=after,
        keep=lambda measured: measured is not None,
    )


def _said(names: Sequence[str], measured: MeasuredSteps | None) -> str:
    if measured is None:
        return "not executed"
    told = [worst_change(alone)[1] for alone, _ in measured.steps]
    said = ", ".join(
        f"{name} {'no SNR' if snr is None else f'{snr:.1f} dB'}" for name, snr in zip(names, told, strict=True)
    )
    return f"each step alone: {said}"


def _record(measured: MeasuredSteps | None) -> dict[str, Any]:
    return {} if measured is None else asdict(measured)


def measured_steps(record: Mapping[str, Any]) -> MeasuredSteps | None:
    """What the stage recorded."""
    if not record:
        return None
    steps = tuple((alone, so_far) for alone, so_far in record["steps"])
    return MeasuredSteps(conversion=Conversion(**record["conversion"]), steps=steps)
