"""The one serializer of what the store keeps: frozen dataclasses as JSON, marked bytes as objects of the store."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from builder.store.objects import CorruptError, Objects

Facts = TypeVar("Facts")


class UnreadableError(ValueError):
    """A record is not one of its stage, or misses an object."""


class _Bytes:
    """What reads and writes the bytes that `builder.artifacts.InStore` marks."""

    def __init__(self, objects: Objects, digests: Mapping[str, str]) -> None:
        self._objects = objects
        self.digests = dict(digests)

    def write(self, value: bytes | None) -> str | None:
        """The name under which an object has its digest."""
        if value is None:
            return None
        name = f"bytes {len(self.digests)}"
        self.digests[name] = self._objects.put_bytes(value)
        return name

    def read(self, name: str | None) -> bytes | None:
        """The bytes of a name. Raises ValueError for an unknown one, and CorruptError for a damaged object."""
        if name is None:
            return None
        if name not in self.digests:
            raise ValueError(f"the result has no {name!r}")
        return self._objects.read_bytes(self.digests[name])


def dump(facts: object, objects: Objects) -> tuple[dict[str, object], dict[str, str]]:
    """Facts as a record of plain values, and the digests of the objects that hold their bytes, by name."""
    found = _Bytes(objects, {})
    record: dict[str, object] = adapter(type(facts)).dump_python(facts, context=found)
    return record, found.digests


def load(kind: type[Facts], record: Mapping[str, object], digests: Mapping[str, str], objects: Objects) -> Facts:
    """Facts of a record that anybody may have written; raises UnreadableError where it is another one."""
    try:
        facts: Facts = adapter(kind).validate_json(json.dumps(record), strict=True, context=_Bytes(objects, digests))
    except (ValidationError, CorruptError, RecursionError, TypeError) as error:
        raise UnreadableError(str(error)) from error
    return facts


def adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """What reads and writes a type of facts, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


_ADAPTERS: dict[type[Any], TypeAdapter[Any]] = {}
"""By type of facts; making one takes milliseconds."""
