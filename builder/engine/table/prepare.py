"""The prepare stage: the substituted module; of it the store keeps everything but modules."""

from __future__ import annotations

from dataclasses import asdict, fields
from functools import cache
from typing import Any

from builder.artifacts.stages import PreparedFacts, PreparedModel
from builder.engine.run import Inputs, StageRow
from builder.engine.runner import Packed, Packing, Stage, StageTask
from builder.engine.table.load import LOAD
from builder.store.digests import digest_of

_LABELS = ("spec classifier.labels", "file classifier.labels", "spec detection.labels", "file detection.labels")
"""Inputs of the stage that change no module."""

_DECIDING = (
    "output_names", "labels", "normalization", "states", "flexible", "integer_outputs", "suppression", "file",
)  # fmt: skip
"""What of a prepared model is plain and decides about the artifact."""


def _task(inputs: Inputs) -> StageTask[PreparedModel, PreparedFacts]:

    def run() -> PreparedModel:
        from builder.model.cautions import cautions
        from builder.stages.prepare import prepare

        prepared = prepare(inputs[LOAD].value(), inputs.run.examples, inputs.spec)
        for caution in cautions(prepared, inputs.run.examples, inputs.spec):
            inputs.run.context.progress.warn(caution.message, code=caution.code)
        return prepared

    def describe(prepared: PreparedModel) -> str:
        from builder.stages.prepare import describe_prepared

        return describe_prepared(prepared)

    return inputs.task(
        PreparedFacts,
        run=run,
        describe=describe,
        pack=_pack,
        restore=_restore,
        after={"load": inputs[LOAD].output},
    )


def _pack(prepared: PreparedModel, packing: Packing) -> Packed[PreparedFacts]:
    inputs = {name: value for name, value in packing.inputs.items() if not name.startswith(_LABELS)}
    return Packed(output=digest_of({"stage": "prepare", "inputs": inputs}), facts=PreparedFacts(**_plain(prepared)))


def _restore(stage: Stage[PreparedModel, PreparedFacts]) -> PreparedModel:
    return PreparedModel(**_plain(stage.facts), modules=cache(lambda: stage.again().modules()))


def _plain(facts: PreparedFacts) -> dict[str, Any]:
    return {each.name: getattr(facts, each.name) for each in fields(PreparedFacts)}


PREPARE = StageRow(name="prepare", scope="function", reads=(LOAD,), task=_task)


def names_digest(prepared: Stage[PreparedModel, PreparedFacts]) -> str:
    """A digest of what is plain in a prepared model and decides about the artifact."""
    plain = asdict(prepared.facts)
    return digest_of([plain[name] for name in _DECIDING])
