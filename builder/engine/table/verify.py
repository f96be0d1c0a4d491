"""The verify stage: the verdicts of all checks; those that missed a limit are not stored."""

from __future__ import annotations

from builder.artifacts.checks import CheckReport
from builder.artifacts.stages import OriginalProgram
from builder.artifacts.stored import VerifiedFacts
from builder.engine.run import Inputs, StageRow, busy_seconds
from builder.engine.runner import Packed, StageTask
from builder.engine.table.capture import CAPTURE
from builder.engine.table.convert import CONVERT
from builder.engine.table.prepare import PREPARE, names_digest
from builder.engine.table.seal import SEAL
from builder.spec import BuildSpec
from builder.spec.functions import labelled
from builder.spec.module_compression import QuantizationAwareTraining
from builder.store.inputs import spec_view

Reports = tuple[CheckReport, ...]


def _has_plain(spec: BuildSpec) -> bool:
    """Whether something computes but for compression what the original does: not where a model is trained otherwise."""
    return bool(spec.compression) and not any(
        isinstance(step, QuantizationAwareTraining) for step in spec.compression.values()
    )


def _plain(spec: BuildSpec) -> BuildSpec:
    return spec.model_copy(update={"compression": {}})


def _task(inputs: Inputs) -> StageTask[Reports, VerifiedFacts]:
    context, functions = inputs.run.context, inputs.run.functions
    prepared, captured = inputs.by_function(PREPARE), inputs.by_function(CAPTURE)
    converted = inputs.by_function(CONVERT)
    compressed = converted if _has_plain(inputs.run.spec) else {}

    def run() -> Reports:
        from builder.analysis.headroom.analyse import places
        from builder.stages.verify import verify

        if not inputs.spec.checks:  # so no program need be read
            return ()
        programs = {
            name: OriginalProgram(
                spec=spec_view("verify", function.spec),
                prepared=prepared[name].value(),
                captured=captured[name].value(),
            )
            for name, function in functions.items()
        }
        seconds = busy_seconds() - context.started
        try:
            return verify(
                programs,
                inputs[SEAL].value(),
                context.progress,
                build_seconds=seconds,
                places={name: places(stage.facts) for name, stage in converted.items()},
                converted={
                    name: (stage.value().model, spec_view("verify", _plain(functions[name].spec)))
                    for name, stage in compressed.items()
                },
            )
        finally:
            for stage in compressed.values():
                stage.forget()

    def describe(reports: Reports) -> str:
        from builder.stages.verify import describe_checks

        return describe_checks(reports)

    after = {"seal": inputs[SEAL].output}
    for name in functions:
        after[labelled("prepare", name)] = prepared[name].output
        after[labelled("names and labels", name)] = names_digest(prepared[name])
        after[labelled("capture", name)] = captured[name].output
    for name, stage in compressed.items():
        after[labelled("convert", name)] = stage.output
    return inputs.task(
        VerifiedFacts,
        run=run,
        describe=describe,
        pack=lambda reports, packing: Packed(output=packing.key, facts=VerifiedFacts(checks=reports)),
        restore=lambda stage: stage.facts.checks,
        after=after,
        is_storable=lambda reports: all(report.passed is not False for report in reports),
    )


VERIFY = StageRow(name="verify", scope="build", reads=(PREPARE, CAPTURE, CONVERT, SEAL), task=_task)
