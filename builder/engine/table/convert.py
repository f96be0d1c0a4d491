"""The convert stage: the model in the backend's own form, before compression."""

from __future__ import annotations

from builder.artifacts.stages import ConvertedModel
from builder.artifacts.stored import ConvertedFacts
from builder.engine.run import Inputs, StageRow
from builder.engine.runner import Packed, Packing, Stage, StageTask
from builder.engine.table.capture import CAPTURE
from builder.engine.table.models import pack_model, unpack_model
from builder.engine.table.prepare import PREPARE, names_digest


def _task(inputs: Inputs) -> StageTask[ConvertedModel, ConvertedFacts]:
    backend = inputs.run.backend

    def run() -> ConvertedModel:
        captured = inputs[CAPTURE].value()
        backend.refuse(captured)
        return backend.convert(inputs[PREPARE].value(), captured, inputs.run.examples, inputs.spec)

    def pack(converted: ConvertedModel, packing: Packing) -> Packed[ConvertedFacts]:
        facts = ConvertedFacts(
            lowerings=converted.lowerings, modules=converted.modules, lines=converted.lines, names=converted.names
        )
        return pack_model(backend, converted.model, facts, packing)

    def restore(stage: Stage[ConvertedModel, ConvertedFacts]) -> ConvertedModel:
        return ConvertedModel(
            model=unpack_model(backend, stage),
            lowerings=stage.facts.lowerings,
            summary=stage.action.line,
            modules=stage.facts.modules,
            lines=stage.facts.lines,
            names=stage.facts.names,
        )

    after = {"capture": inputs[CAPTURE].output, "names and labels": names_digest(inputs[PREPARE])}
    return inputs.task(
        ConvertedFacts, run=run, describe=lambda converted: converted.summary, pack=pack, restore=restore, after=after
    )


CONVERT = StageRow(name="convert", scope="function", reads=(PREPARE, CAPTURE), task=_task)
