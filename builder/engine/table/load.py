"""The load stage: the source's module; of it the store keeps what is known about it."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial

from builder.artifacts.stages import LoadedModel
from builder.artifacts.stored import LoadedFacts
from builder.engine.run import Inputs, StageRow
from builder.engine.runner import Packed, Packing, StageTask
from builder.store.digests import digest_of
from builder.store.fallback import evidence, still_offline


def _task(inputs: Inputs) -> StageTask[LoadedModel, LoadedFacts]:
    def run() -> LoadedModel:
        from builder.stages.load import load

        return load(inputs.spec, inputs.run.examples, inputs.run.context.progress)

    def describe(loaded: LoadedModel) -> str:
        from builder.stages.load import describe_load

        return describe_load(loaded)

    return inputs.task(
        LoadedFacts,
        run=run,
        describe=describe,
        pack=_pack,
        restore=lambda stage: stage.again(),
        is_current=lambda facts: still_offline(facts.fallback),
    )


def _pack(loaded: LoadedModel, packing: Packing) -> Packed[LoadedFacts]:
    tensors = loaded.module.state_dict().values()
    known = partial(
        LoadedFacts,
        digest=loaded.digest,
        seeded=loaded.seeded,
        preprocessing=loaded.preprocessing,
        labels=loaded.labels,
        source_bytes=sum(t.numel() * t.element_size() for t in tensors if hasattr(t, "numel")),
    )
    # A file counts by its content: under another name it is the same source.
    origin = loaded.origin.copy()
    origin.pop("file", None)
    output = digest_of({"key": packing.key, **asdict(known(origin=origin, fallback=None))})
    fallback = evidence(loaded.origin) if loaded.seeded else None
    return Packed(output=output, facts=known(origin=loaded.origin, fallback=fallback))


LOAD = StageRow(name="load", scope="build", reads=(), task=_task)
