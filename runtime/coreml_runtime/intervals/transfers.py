"""All transfer functions, by MIL's name of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from coreml_runtime.intervals import (
    activation,
    binary,
    gathering,
    linear,
    moving,
    normalization,
    recurrent,
    reduction,
    unary,
)
from coreml_runtime.intervals.context import Transfer
from coreml_runtime.ops.table import merge

_FAMILIES = (unary, activation, binary, gathering, linear, moving, normalization, recurrent, reduction)


@lru_cache(maxsize=1)
def transfers() -> Mapping[str, Transfer]:
    """Of an operator that is not among them nothing is known."""
    return merge(*(dict(family.TRANSFERS) for family in _FAMILIES))
