"""How operators are written with others before coreai-torch converts them: Apple's table, and ours for its gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from builder.backends.coreai.decompositions import (
    elementwise,
    matrices,
    memory,
    order,
    padding,
    pooling,
    reduction,
    sampling,
    scattering,
)

OURS: dict[Any, Callable[..., Any]] = {
    **elementwise.OURS,
    **matrices.OURS,
    **memory.OURS,
    **order.OURS,
    **padding.OURS,
    **pooling.OURS,
    **reduction.OURS,
    **sampling.OURS,
    **scattering.OURS,
}
"""Our own, by overload."""

TORCHS: tuple[Any, ...] = (*elementwise.TORCHS, *memory.TORCHS, *reduction.TORCHS, *sampling.TORCHS)
"""Those that torch has, and leaves out of the table for core ATen."""


def decompositions() -> dict[Any, Callable[..., Any]]:
    """The table for `ExportedProgram.run_decompositions`."""
    from coreai_torch import get_decomp_table
    from torch._decomp import get_decompositions

    return {**get_decomp_table(), **get_decompositions(TORCHS), **OURS}
