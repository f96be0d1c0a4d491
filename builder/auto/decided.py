"""A spec with what was chosen in the place of `auto`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter

from builder.spec import BuildSpec
from builder.spec.compression_kinds import Compression
from builder.spec.precision import Precision


def resolve_auto(spec: BuildSpec, sections: Mapping[str, object]) -> BuildSpec:
    """`spec` with the `precision` and the `compression` that `sections` say; None leaves what the recipe says."""
    found: dict[str, object] = {}
    if sections.get("precision") is not None:
        found["precision"] = TypeAdapter(Precision).validate_python(sections["precision"])
    if sections.get("compression") is not None:
        found["compression"] = TypeAdapter(dict[str, Compression]).validate_python(sections["compression"])
    return spec.model_copy(update=found)
