"""Models of a backend in the store: a folder of objects."""

from __future__ import annotations

from typing import Any, TypeVar

from builder.backends.interface import Backend
from builder.engine.runner import Packed, Packing, Stage
from builder.store.objects import CorruptError

Facts = TypeVar("Facts")


def pack_model(backend: Backend, model: object, facts: Facts, packing: Packing) -> Packed[Facts]:
    """Put a model of a backend's into the store."""
    manifest = backend.pack_model(model, packing.objects)
    return Packed(output=manifest, facts=facts, objects={"model/": manifest})


def unpack_model(backend: Backend, stage: Stage[Any, Any]) -> Any:
    """Take it out again; raises CorruptError where it is another one than the result says."""
    manifest = stage.stored("model/")
    if manifest != stage.output:
        raise CorruptError("the model is another one than the result says")
    return backend.unpack_model(manifest, stage.objects)
