"""The measure stage: what conversion and each compression step cost. It decides nothing, and comes last."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.artifacts.effects import worst_change
from builder.artifacts.stages import CapturedProgram, MeasuredSteps
from builder.artifacts.stored import MeasuredFacts
from builder.engine.run import Inputs, StageRow
from builder.engine.runner import Packed, StageTask
from builder.engine.table.capture import CAPTURE
from builder.engine.table.compress import COMPRESS
from builder.engine.table.convert import CONVERT
from builder.engine.table.prepare import PREPARE, names_digest
from builder.engine.table.seal import SEAL, sealed_package
from builder.spec import BuildSpec


def is_measured(spec: BuildSpec) -> bool:
    """Whether a build has steps on the program to measure, and a check that says on what."""
    return bool(spec.program_compression and spec.measured_checks)


def _task(inputs: Inputs) -> StageTask[MeasuredSteps | None, MeasuredFacts]:
    names = tuple(inputs.run.spec.program_compression)
    converted, compressed = inputs[CONVERT], inputs[COMPRESS]

    def run() -> MeasuredSteps | None:
        from builder.stages.measure import measure

        between = inputs.run.between
        if between is None and len(names) > 1:
            between = compressed.again().between
        try:
            return measure(
                inputs.spec,
                prepared=inputs[PREPARE].value(),
                captured=CapturedProgram(program=None, method=inputs[CAPTURE].facts.method),  # nothing looks at it
                sealed=sealed_package(inputs[SEAL], Path()),
                models=(converted.value().model, compressed.value().model),
                between=[step.path for step in between or ()],
                progress=inputs.run.context.progress,
            )
        finally:
            converted.forget()
            compressed.forget()

    after = {
        "prepare": inputs[PREPARE].output,
        "names and labels": names_digest(inputs[PREPARE]),
        "convert": converted.output,
        "compress": compressed.output,
    }
    return inputs.task(
        MeasuredFacts,
        run=run,
        describe=lambda measured: _described(names, measured),
        pack=lambda measured, packing: Packed(output=packing.key, facts=MeasuredFacts(steps=measured)),
        restore=lambda stage: stage.facts.steps,
        after=after,
        is_storable=lambda measured: measured is not None,
    )


def _described(names: Sequence[str], measured: MeasuredSteps | None) -> str:
    if measured is None:
        return "not executed"
    changes = [worst_change(alone)[1] for alone, _ in measured.steps]
    steps = ", ".join(
        f"{name} {'no SNR' if snr is None else f'{snr:.1f} dB'}" for name, snr in zip(names, changes, strict=True)
    )
    return f"each step alone: {steps}"


MEASURE = StageRow(
    name="measure",
    scope="build",
    reads=(PREPARE, CAPTURE, CONVERT, COMPRESS, SEAL),
    task=_task,
    applies=is_measured,
)
