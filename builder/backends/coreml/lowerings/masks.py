"""What attention masks are made from: ones, and triangles of matrices."""

from __future__ import annotations

from typing import Any

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var, Wrong
from builder.backends.coreml.lowerings.variables import fixed_size, is_bool, numpy_dtype, promoted, zeros_like


def new_ones(mb: Builder, x: Var, size: Any, dtype: int | None = None, **_: Any) -> Var:
    """`x.new_ones(size, dtype)`: ones of the dtype that is asked for, of x's own unless one is."""
    import numpy as np
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE
    from coremltools.converters.mil.mil import types

    wanted = types.nptype_from_builtin(x.dtype) if dtype is None else NUM_TO_NUMPY_DTYPE[dtype]
    if isinstance(size, list) and all(isinstance(length, int) for length in size):
        return mb.const(val=np.ones(tuple(size), dtype=wanted))
    return mb.fill(shape=mb.concat(values=size, axis=0) if isinstance(size, list) else size, value=wanted(1))


def triu(mb: Builder, x: Var, diagonal: int = 0) -> Var:
    """The upper triangle of (…, H, W), zeros elsewhere: chosen, not subtracted, since infinity less itself is NaN."""
    import numpy as np

    return _chosen(mb, x, np.triu(_all_true(x), diagonal))


def tril(mb: Builder, x: Var, diagonal: int = 0) -> Var:
    """The lower triangle of (…, H, W), zeros elsewhere."""
    import numpy as np

    return _chosen(mb, x, np.tril(_all_true(x), diagonal))


def _all_true(x: Var) -> Any:
    import numpy as np

    return np.ones([fixed_size(x, axis, "a triangle") for axis in (-2, -1)], dtype=bool)


def _chosen(mb: Builder, x: Var, kept: Any) -> Var:
    import numpy as np

    if is_bool(x):
        return mb.logical_and(x=x, y=kept)
    whole = np.broadcast_to(kept, [fixed_size(x, axis, "a triangle") for axis in range(x.rank)]).copy()
    if x.val is not None:
        return mb.const(val=np.where(whole, x.val, numpy_dtype(x)(0)))
    return mb.select(cond=whole, a=x, b=zeros_like(mb, x))


def _is_subtracted(x: Var, diagonal: int = 0) -> bool:
    """Whether coremltools subtracts the other triangle; flexible sizes are left to it."""
    return diagonal > 0 and all(isinstance(size, int) for size in x.shape)


def _is_subtracted_below(x: Var, diagonal: int = 0) -> bool:
    return diagonal < 0 and all(isinstance(size, int) for size in x.shape)


def where(mb: Builder, condition: Var, x: Var, other: Var) -> Var:
    """X where the condition holds, else `other`; one or both are numbers, which take the other's dtype."""
    from coremltools.converters.mil.frontend._utils import pymil_broadcast_tensors

    condition, x, other = pymil_broadcast_tensors([condition, *promoted(x, other)])
    return mb.select(cond=condition, a=x, b=other)


def _mixes_dtypes(x: Var, other: Var) -> bool:
    return bool(x.dtype != other.dtype)


_INFINITE = Wrong(issue=2771, said="makes NaN of infinite elements", fixed_in="9.1.dev0")

MASKS = (
    Lowering(operator="new_ones", lower=new_ones),
    *(
        Lowering(operator=f"where.{name}", lower=where, lacks="numbers of another dtype", applies=_mixes_dtypes)
        for name in ("scalarself", "scalarother")
    ),
    Lowering(operator="triu", lower=triu, wrong=_INFINITE, applies=_is_subtracted),
    Lowering(operator="tril", lower=tril, wrong=_INFINITE, applies=_is_subtracted_below),
)
