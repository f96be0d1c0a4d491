"""Arrays of one value, of the sizes of another array, in the dtype that is asked for; means of integers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from numbers import Integral
from typing import Any

from builder.backends.coreml.lowerings.flexible_sizes import is_open, places_of, whole
from builder.backends.coreml.lowerings.lowering import (
    Builder,
    Constant,
    Lowering,
    Size,
    Sizes,
    Unused,
    UpstreamBug,
    Var,
)
from builder.backends.coreml.lowerings.variables import all_axes, as_float, is_bool, is_float, numpy_dtype


def full_like(mb: Builder, x: Var, fill_value: Constant, dtype: int | None = None, **_: Unused) -> Var:
    """`fill_value` everywhere."""
    return _filled(mb, list(x.shape) if _is_fixed(x.shape) else mb.shape(x=x), fill_value, _wanted(x, dtype))


def new_full(mb: Builder, x: Var, size: Sizes, fill_value: Constant, dtype: int | None = None, **_: Unused) -> Var:
    """`fill_value` in the dtype of x, unless another one is asked for."""
    return _filled(mb, size, fill_value, _wanted(x, dtype))


def _new(value: float, mb: Builder, x: Var, size: Sizes, dtype: int | None = None, **_: Unused) -> Var:
    return new_full(mb, x, size, value, dtype)


def _wanted(x: Var, dtype: int | None) -> Any:
    """The numpy dtype of torch's number of a dtype, or that of x."""
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE

    return numpy_dtype(x) if dtype is None else NUM_TO_NUMPY_DTYPE[dtype]


def _is_fixed(size: Sizes) -> bool:
    return not hasattr(size, "rank") and all(isinstance(each, Integral) for each in size)


def _filled(mb: Builder, size: Sizes, value: Constant, wanted: type) -> Var:
    """One value in all places; integers of every width have 32 bits."""
    import numpy as np

    if hasattr(value, "rank"):
        raise NotImplementedError("an array full of a value that the input decides is not converted")
    wanted = np.int32 if wanted is not np.int32 and np.issubdtype(wanted, np.integer) else wanted
    if _is_fixed(size):
        return mb.const(val=np.full([int(each) for each in size], value, dtype=wanted))
    shape = size if hasattr(size, "rank") else _joined(mb, size)
    if wanted is np.bool_:
        return mb.cast(x=mb.fill(shape=shape, value=np.int32(bool(value))), dtype="bool")
    return mb.fill(shape=shape, value=wanted(value))


def _joined(mb: Builder, sizes: Sequence[Size]) -> Var:
    """Numbers, some of which only the app knows, as one array."""
    rows = [[each] if not hasattr(each, "rank") else mb.expand_dims(x=each, axes=[0]) if each.rank == 0 else each
            for each in sizes]  # fmt: skip
    return mb.concat(values=rows, axis=0)


def _always(value: float, mb: Builder, x: Var, dtype: int | None = None, **_: Unused) -> Var:
    return full_like(mb, x, value, dtype)


def _is_other(x: Var, dtype: int | None = None) -> bool:
    """Whether the result is not simply what x is, floats."""
    return dtype is not None or not is_float(x)


def full(mb: Builder, size: Sizes, fill_value: Constant, dtype: int | None = None, **_: Unused) -> Var:
    """A number without axes, or an array of integers, which need no dtype to be such."""
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE

    if hasattr(fill_value, "rank"):
        return mb.identity(x=fill_value)
    kinds = {bool: 11, int: 3, float: 6}
    wanted = NUM_TO_NUMPY_DTYPE[kinds[type(fill_value)] if dtype is None else dtype]
    return mb.const(val=wanted(fill_value)) if _has_no_axes(size) else _filled(mb, size, fill_value, wanted)


def _of_size(value: int, mb: Builder, size: Sizes, dtype: int | None = None, **_: Unused) -> Var:
    """Zeros or ones of the dtype that is asked for; coremltools reads it where a trace has it alone."""
    return full(mb, size, float(value), dtype)


def _is_not_single(dtype: int | None = None) -> bool:
    return dtype not in (None, 6)  # torch's number of float32, which coremltools takes for granted


def scalar_tensor(mb: Builder, x: Var, dtype: int | None = None, **_: Unused) -> Var:
    """A number without axes, in floats unless another dtype is asked for."""
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE

    if x.val is None:
        return x
    return mb.const(val=NUM_TO_NUMPY_DTYPE[6 if dtype is None else dtype](x.val))


_LEFT_OUT = object()


def eye(
    mb: Builder,
    n: Size,
    a: Constant = _LEFT_OUT,
    b: Constant = _LEFT_OUT,
    c: Constant = _LEFT_OUT,
    d: Constant = _LEFT_OUT,
    e: Constant = _LEFT_OUT,
    dtype: int | None = None,
    **_: Unused,
) -> Var:
    """Ones on the diagonal. A trace has `eye(n, dtype, …)` of 5 arguments or `eye(n, m, dtype, …)` of 6."""
    import numpy as np
    from coremltools.converters.mil.frontend.torch.ops import NUM_TO_NUMPY_DTYPE

    further = sum(each is not _LEFT_OUT for each in (a, b, c, d, e))
    columns, asked = {0: (n, dtype), 1: (a, dtype), 4: (n, a), 5: (a, b)}[further]
    wanted = NUM_TO_NUMPY_DTYPE[6 if asked is None else asked]
    if is_open([n, columns]):
        down, right = (places_of(mb, whole(mb, size)) for size in (n, columns))
        is_diagonal = mb.equal(x=mb.expand_dims(x=down, axes=[1]), y=mb.expand_dims(x=right, axes=[0]))
        kind = "int32" if np.issubdtype(wanted, np.integer) else "bool" if wanted is np.bool_ else "fp32"
        return is_diagonal if kind == "bool" else mb.cast(x=is_diagonal, dtype=kind)
    return mb.const(val=np.eye(n, columns, dtype=np.int32 if np.issubdtype(wanted, np.integer) else wanted))


def _has_no_axes(size: Sizes) -> bool:
    return isinstance(size, list) and not size


def _is_number_or_whole(size: Sizes, fill_value: Constant, dtype: int | None = None) -> bool:
    return _has_no_axes(size) or (dtype is None and isinstance(fill_value, int))


def mean(mb: Builder, x: Var, dim: Constant = None, keepdim: bool | None = None, dtype: Unused = None) -> Var:
    """The mean of integers in floats; of `mean(x, dtype)` the only other argument is the dtype."""
    del dtype
    axes: Sequence[int] | int | None = None if keepdim is None and isinstance(dim, int) else dim
    return mb.reduce_mean(x=as_float(x), axes=all_axes(axes, x.rank), keep_dims=bool(keepdim))


def _is_whole(x: Var) -> bool:
    return not is_float(x) and not is_bool(x)


def _is_of_other_kind(x: Var, fill_value: Constant, dtype: int | None = None) -> bool:
    return isinstance(fill_value, int) or _is_other(x, dtype)


_DTYPE = "gives floats, or the dtype of the other array or of the number, whatever dtype is asked for"
_LIKE = UpstreamBug(issue=None, summary=_DTYPE)
_MEAN = UpstreamBug(issue=None, summary="rounds the mean of integers down")

LIKES = (
    *(
        Lowering(operator=f"{name}_like", lower=partial(_always, value), wrong=_LIKE, applies=_is_other)
        for name, value in (("zeros", 0), ("ones", 1), ("empty", 0))
    ),
    Lowering(
        operator="full", lower=full, upstream_gap="numbers without axes, and integers", applies=_is_number_or_whole
    ),
    *(
        Lowering(operator=f"new_{name}", lower=partial(_new, value), wrong=_LIKE)
        for name, value in (("zeros", 0), ("empty", 0))
    ),
    Lowering(operator="new_ones", lower=partial(_new, 1)),
    *(
        Lowering(operator=name, lower=partial(_of_size, value), wrong=_LIKE, applies=_is_not_single)
        for name, value in (("zeros", 0), ("ones", 1), ("empty", 0), ("empty.memory_format", 0))
    ),
    *(Lowering(operator=name, lower=eye, wrong=_LIKE) for name in ("eye", "eye.m")),
    Lowering(operator="scalar_tensor", lower=scalar_tensor, wrong=_LIKE),
    Lowering(operator="new_full", lower=new_full, wrong=_LIKE),
    Lowering(operator="full_like", lower=full_like, wrong=_LIKE, applies=_is_of_other_kind),
    *(Lowering(operator=name, lower=mean, wrong=_MEAN, applies=_is_whole) for name in ("mean", "mean.dim")),
)
