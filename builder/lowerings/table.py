"""Every lowering of ours, by the operator's name."""

from __future__ import annotations

from builder.lowerings.integer import INTEGER
from builder.lowerings.lowering import Lowering, by_operator
from builder.lowerings.masks import MASKS

LOWERINGS = by_operator(INTEGER, MASKS)


def known_lowerings() -> tuple[Lowering, ...]:
    """All of them, in the order of their operators."""
    return tuple(LOWERINGS.values())
