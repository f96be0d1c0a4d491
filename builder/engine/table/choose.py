"""The choose stage: what `auto` stands for, by builds of the same model that the store keeps like all others."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.record import AutoResult
from builder.artifacts.stored import SensitivityFacts
from builder.auto.attempts import TriedBuild
from builder.auto.decided import resolve_auto
from builder.engine.run import Inputs, Run, StageRow
from builder.engine.runner import Packed, Packing, Stage, StageTask
from builder.engine.table.capture import CAPTURE
from builder.engine.table.compress import COMPRESS
from builder.engine.table.convert import CONVERT
from builder.engine.table.load import LOAD
from builder.engine.table.prepare import PREPARE, names_digest
from builder.engine.table.seal import SEAL
from builder.engine.table.verify import VERIFY
from builder.spec import BuildSpec
from builder.store.digests import digest_of

if TYPE_CHECKING:
    from builder.artifacts.stored import MeasuredLayers


def _task(inputs: Inputs) -> StageTask[AutoResult, AutoResult]:
    def run() -> AutoResult:
        from builder.auto.choose import choose

        with tempfile.TemporaryDirectory(prefix="builder-choose-") as workspace:

            def attempt(spec: BuildSpec) -> TriedBuild:
                return as_tried(_trial(inputs, spec, Path(tempfile.mkdtemp(dir=workspace))).advance())

            def measured(after: Mapping[str, str], measure: Callable[[], MeasuredLayers]) -> MeasuredLayers:
                context = inputs.run.context
                return context.quiet().runner.stage(_sensitivity(inputs.run.spec, after, measure)).value()

            return choose(inputs.run.spec, attempt, measured, inputs.run.context.progress)

    return inputs.task(
        AutoResult,
        run=run,
        describe=lambda chosen: chosen.summary,
        pack=_pack,
        restore=lambda stage: stage.facts,
        after={"prepare": inputs[PREPARE].output, "names and labels": names_digest(inputs[PREPARE])},
    )


def _trial(inputs: Inputs, spec: BuildSpec, folder: Path) -> Run:
    """A run of a decided spec on the same loaded and prepared model, quietly."""
    context = inputs.run.context
    trial = Run(replace(context.quiet(), request=replace(context.request, spec=spec), folder=folder))
    trial.results[LOAD] = inputs[LOAD]
    for function in trial.functions.values():
        function.results[PREPARE] = inputs[PREPARE]
    return trial


def as_tried(run: Run) -> TriedBuild:
    """What a choice looks at of a run that is done up to its artifact, or to its checks."""
    sealed, converted, compressed = run[SEAL], run[CONVERT], run[COMPRESS]
    return TriedBuild(
        artifact=lambda: sealed.value().path,
        digest=sealed.output,
        size_bytes=sealed.facts.size_bytes,
        weights=sealed.facts.weights,
        modules=converted.facts.modules,
        names=converted.facts.names,
        method=run[CAPTURE].facts.method,
        effects=compressed.facts.effects,
        prepared=lambda: run[PREPARE].value(),
        weight_users=lambda: run.backend.weight_users(converted.value().model, sealed.value().path),
        reports=lambda: run[VERIFY].value(),
    )


def _sensitivity(
    spec: BuildSpec, after: Mapping[str, str], measure: Callable[[], MeasuredLayers]
) -> StageTask[MeasuredLayers, SensitivityFacts]:
    """The sensitivity of layers, on artifacts with the digests `after`: another limit need not measure it again."""
    return StageTask(
        name="sensitivity",
        spec=spec,
        function="",
        facts=SensitivityFacts,
        run=measure,
        describe=lambda layers: f"{len(layers['layers'])} layers",
        pack=lambda layers, _: Packed(output=digest_of(layers), facts=SensitivityFacts(measured=layers)),
        restore=lambda stage: stage.facts.measured,
        after=after,
    )


def _pack(chosen: AutoResult, packing: Packing) -> Packed[AutoResult]:  # noqa: ARG001 - all stages pack alike
    return Packed(output=digest_of([chosen.precision, chosen.compression]), facts=chosen)


def _decide(run: Run, chosen: Stage[AutoResult, AutoResult]) -> None:
    sections = {"precision": chosen.facts.precision, "compression": chosen.facts.compression}
    run.decide(resolve_auto(run.spec, sections))


CHOOSE = StageRow(
    name="choose",
    scope="build",
    reads=(LOAD, PREPARE),
    task=_task,
    applies=lambda spec: spec.is_open,
    then=_decide,
)
