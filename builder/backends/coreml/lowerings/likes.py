"""Arrays of one value, of the sizes of another array, in the dtype that is asked for; means of integers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import all_axes, as_float, is_bool, is_float, numpy_dtype


def full_like(mb: Builder, x: Var, fill_value: Any, dtype: int | None = None, **_: Any) -> Var:
    """`fill_value` everywhere."""
    import numpy as np
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE

    wanted = numpy_dtype(x) if dtype is None else NUM_TO_NUMPY_DTYPE[dtype]
    if all(isinstance(size, int) for size in x.shape):
        return mb.const(val=np.full(x.shape, fill_value, dtype=wanted))
    if wanted is np.bool_:
        return mb.cast(x=mb.fill(shape=mb.shape(x=x), value=np.int32(bool(fill_value))), dtype="bool")
    return mb.fill(shape=mb.shape(x=x), value=wanted(fill_value))


def _always(value: float, mb: Builder, x: Var, dtype: int | None = None, **_: Any) -> Var:
    return full_like(mb, x, value, dtype)


def _is_other(x: Var, dtype: int | None = None) -> bool:
    """Whether the result is not simply what x is, floats."""
    return dtype is not None or not is_float(x)


def full(mb: Builder, size: Sequence[Any], fill_value: Any, dtype: int | None = None, **_: Any) -> Var:
    """A number without axes."""
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE

    del size
    if hasattr(fill_value, "rank"):
        return mb.identity(x=fill_value)
    kinds = {bool: 11, int: 3, float: 6}
    return mb.const(val=NUM_TO_NUMPY_DTYPE[kinds[type(fill_value)] if dtype is None else dtype](fill_value))


def _has_no_axes(size: Any) -> bool:
    return isinstance(size, list) and not size


def mean(mb: Builder, x: Var, dim: Any = None, keepdim: bool | None = None, dtype: Any = None) -> Var:
    """The mean of integers in floats; of `mean(x, dtype)` the only other argument is the dtype."""
    del dtype
    axes: Sequence[int] | int | None = None if keepdim is None and isinstance(dim, int) else dim
    return mb.reduce_mean(x=as_float(x), axes=all_axes(axes, x.rank), keep_dims=bool(keepdim))


def _is_whole(x: Var) -> bool:
    return not is_float(x) and not is_bool(x)


_DTYPE = "gives floats, or the dtype of the other array, whatever dtype is asked for"
_LIKE = UpstreamBug(issue=None, summary=_DTYPE)
_MEAN = UpstreamBug(issue=None, summary="rounds the mean of integers down")

LIKES = (
    *(
        Lowering(operator=f"{name}_like", lower=partial(_always, value), wrong=_LIKE, applies=_is_other)
        for name, value in (("zeros", 0), ("ones", 1), ("empty", 0))
    ),
    Lowering(operator="full", lower=full, upstream_gap="numbers without axes", applies=_has_no_axes),
    Lowering(operator="full_like", lower=full_like, wrong=_LIKE, applies=_is_other),
    *(Lowering(operator=name, lower=mean, wrong=_MEAN, applies=_is_whole) for name in ("mean", "mean.dim")),
)
