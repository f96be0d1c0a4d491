"""Every code by its name, in order. A code keeps its meaning for good, and one that went is not given again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from builder.diagnostics.code import Code
from builder.diagnostics.codes import (
    combinations,
    commands,
    conversion,
    environment,
    files,
    migration,
    models,
    releases,
    sources,
    warnings,
)


def _table(codes: Iterable[Code]) -> Mapping[str, Code]:
    """By name; raises ValueError for a code that is there twice."""
    found: dict[str, Code] = {}
    for code in codes:
        if code.code in found:
            raise ValueError(f"{code.code} is there twice: {found[code.code].title}, {code.title}")
        found[code.code] = code
    return dict(sorted(found.items()))


_FAMILIES = (files, commands, combinations, models, sources, conversion, migration, releases, environment, warnings)

CODES = _table(code for family in _FAMILIES for code in family.CODES)
