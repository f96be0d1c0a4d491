"""The compress stage: the model after compression; calibration prepares pictures as the weights say."""

from __future__ import annotations

from dataclasses import asdict

from builder.artifacts.stages import CompressedModel
from builder.artifacts.stored import CompressedFacts
from builder.engine.run import Inputs, StageRow
from builder.engine.runner import Packed, Packing, Stage, StageTask
from builder.engine.table.convert import CONVERT
from builder.engine.table.models import pack_model, unpack_model
from builder.engine.table.prepare import PREPARE
from builder.store.digests import digest_of


def _task(inputs: Inputs) -> StageTask[CompressedModel, CompressedFacts]:
    backend = inputs.run.backend
    published = inputs[PREPARE].facts.preprocessing

    def run() -> CompressedModel:
        progress = inputs.run.context.progress
        return backend.compress(inputs[CONVERT].value(), inputs.spec, progress, published=published)

    def pack(compressed: CompressedModel, packing: Packing) -> Packed[CompressedFacts]:
        facts = CompressedFacts(effects=compressed.effects, skipped=compressed.skipped)
        return pack_model(backend, compressed.model, facts, packing)

    def restore(stage: Stage[CompressedModel, CompressedFacts]) -> CompressedModel:
        return CompressedModel(
            model=unpack_model(backend, stage),
            effects=stage.facts.effects,
            skipped=stage.facts.skipped,
            summary=stage.action.line,
        )

    after = {
        "convert": inputs[CONVERT].output,
        "published preparation": digest_of(None if published is None else asdict(published)),
    }
    return inputs.task(
        CompressedFacts,
        run=run,
        describe=lambda compressed: compressed.summary,
        pack=pack,
        restore=restore,
        after=after,
    )


COMPRESS = StageRow(name="compress", scope="function", reads=(PREPARE, CONVERT), task=_task)
