"""How operators are written with others before coreai-torch converts them: Apple's table, and ours for its gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.backends.coreai.decompositions import (
    elementwise,
    exact,
    matrices,
    memory,
    order,
    padding,
    pooling,
    reduction,
    sampling,
    scattering,
)

if TYPE_CHECKING:
    from torch._ops import OpOverload

OURS: dict[OpOverload, Callable[..., object]] = {
    **elementwise.OURS,
    **exact.OURS,
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

TORCHS: tuple[OpOverload, ...] = (*elementwise.TORCHS, *memory.TORCHS, *reduction.TORCHS, *sampling.TORCHS)
"""Those that torch has, and leaves out of the table for core ATen."""


def decompositions() -> dict[OpOverload, Callable[..., object]]:
    """The table for `ExportedProgram.run_decompositions`."""
    from coreai_torch import get_decomp_table
    from torch._decomp import get_decompositions

    return {**get_decomp_table(), **get_decompositions(TORCHS), **OURS}
