"""Sums of booleans: counts, which are integers and may be larger than half precision holds (65504)."""

from __future__ import annotations

from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import is_bool

Axes = Sequence[int] | int | None

_FLOATS = (5, 6, 7)
"""torch's numbers of float16, float32 and float64."""


def count(mb: Builder, x: Var, dim: Axes = None, keepdim: bool = False, dtype: int | None = None) -> Var:
    """How many are true along the axes, all of them where none are given: int32, as torch gives int64."""
    axes = list(range(x.rank)) if dim is None or dim == [] else [dim] if isinstance(dim, int) else list(dim)
    ones = mb.cast(x=x, dtype="int32")
    result = mb.reduce_sum(x=ones, axes=axes, keep_dims=bool(keepdim)) if axes else ones
    return mb.cast(x=result, dtype="fp32") if dtype in _FLOATS else result


def count_traced(mb: Builder, x: Var, dim: Axes = None, keepdim: bool | None = None, dtype: int | None = None) -> Var:
    """As `count`; of `sum(x, dtype)` the only other argument is the dtype."""
    if keepdim is None:
        return count(mb, x, None, False, dim if isinstance(dim, int) else dtype)
    return count(mb, x, dim, keepdim, dtype)


def _counts(x: Var) -> bool:
    return is_bool(x)


_WRONG = UpstreamBug(
    issue=1685, summary="counts in floats, of which half precision ends at 65504 and has no odd ones from 2048 on"
)

COUNTING = (
    Lowering(operator="sum", lower=count_traced, wrong=_WRONG, applies=_counts),
    Lowering(operator="sum.dim_intlist", lower=count, wrong=_WRONG, applies=_counts),
)
