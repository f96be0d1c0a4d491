"""The address of a model: where somebody else gets the same weights."""

from __future__ import annotations

from typing import Any

from builder.spec import BuildSpec
from builder.spec.source_kinds import kind_of


def address_of(spec: BuildSpec) -> str:
    """A URL, the name of a published model, the name of a local file, or the factory that makes the model."""
    source: Any = spec.source
    local = getattr(source, "file", None) or getattr(source, "folder", None)
    if local is not None:
        return f"file:{local.rpartition('/')[2]}"
    address = kind_of(source).address(source)
    return address or f"{source.kind}:{getattr(source, 'name', '') or getattr(source, 'config_class', '')}"
