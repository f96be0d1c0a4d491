"""Order statistics: what stands at a place when values are sorted."""

from __future__ import annotations

import math

from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Var
from builder.backends.coreml.lowerings.reduction import bucketize
from builder.backends.coreml.lowerings.variables import as_float, fixed_size, positive, promoted, slice_axis


def kthvalue(mb: Builder, x: Var, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Var, Var]:
    """The k-th smallest along an axis, counted from 1, and where it was."""
    fixed_size(x, dim, "kthvalue")
    values, places = mb.topk(x=x, k=k, axis=dim, ascending=True)
    last = [slice_axis(mb, sorted_, dim, k - 1, k) for sorted_ in (values, places)]
    value, place = last if keepdim else [mb.squeeze(x=each, axes=[positive(dim, x.rank)]) for each in last]
    return value, place


def median(mb: Builder, x: Var, dim: int | None = None, keepdim: bool = False) -> Var | tuple[Var, Var]:
    """The lower of the two in the middle, along an axis with its place, or of all elements."""
    if dim is None:
        x = mb.reshape(x=x, shape=[-1])
        return kthvalue(mb, x, _middle(fixed_size(x, 0, "median")))[0]
    return kthvalue(mb, x, _middle(fixed_size(x, dim, "median")), dim, keepdim)


def _middle(size: int) -> int:
    return (size - 1) // 2 + 1


def quantile(
    mb: Builder, x: Var, q: Constant, dim: int | None = None, keepdim: bool = False, interpolation: str = "linear"
) -> Var:
    """Between the two values around the place `q * (size - 1)`; constant q alone, one number or several."""
    if interpolation != "linear" or not isinstance(q, float | int | list):
        raise NotImplementedError("quantile is converted for constant places and linear interpolation")
    if dim is None and keepdim:
        raise NotImplementedError("quantile of all elements with keepdim is not converted")
    x = mb.reshape(x=as_float(x), shape=[-1]) if dim is None else as_float(x)
    axis = 0 if dim is None else dim
    size = fixed_size(x, axis, "quantile")
    ordered, _ = mb.topk(x=x, k=size, axis=axis, ascending=True)

    def at(fraction: float) -> Var:
        place = fraction * (size - 1)
        low, high = math.floor(place), math.ceil(place)
        lower, upper = (slice_axis(mb, ordered, axis, edge, edge + 1) for edge in (low, high))
        value = mb.add(x=lower, y=mb.mul(x=mb.sub(x=upper, y=lower), y=float(place - low)))
        return value if keepdim else mb.squeeze(x=value, axes=[positive(axis, x.rank)])

    return mb.stack(values=[at(each) for each in q], axis=0) if isinstance(q, list) else at(q)


def searchsorted(
    mb: Builder,
    sorted_sequence: Var,
    x: Var,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Var | None = None,
) -> Var:
    """Where each element of x belongs in one sorted sequence."""
    if sorter is not None:
        raise NotImplementedError("searchsorted with a sorter is not converted")
    return bucketize(mb, x, sorted_sequence, out_int32, right or side == "right")


def msort(mb: Builder, x: Var) -> Var:
    """Sorted along the first axis."""
    return mb.topk(x=x, k=fixed_size(x, 0, "msort"), axis=0, ascending=True)[0]


def isin(mb: Builder, elements: Var, test_elements: Var, assume_unique: bool = False, invert: bool = False) -> Var:
    """Whether each element is one of the others."""
    del assume_unique
    shape = mb.shape(x=elements)
    each, others = promoted(mb.reshape(x=elements, shape=[-1, 1]), mb.reshape(x=test_elements, shape=[1, -1]))
    equal = mb.cast(x=mb.equal(x=each, y=others), dtype="int32")
    found = mb.greater(x=mb.reduce_max(x=equal, axes=[1], keep_dims=False), y=0)
    return mb.reshape(x=mb.logical_not(x=found) if invert else found, shape=shape)


def _is_one_sequence(sorted_sequence: Var, x: Var) -> bool:
    return bool(sorted_sequence.rank == 1 and x.rank != 1)


ORDER = (
    Lowering(operator="kthvalue", lower=kthvalue),
    *(Lowering(operator=name, lower=median) for name in ("median", "median.dim")),
    Lowering(operator="quantile", lower=quantile),
    Lowering(operator="msort", lower=msort),
    *(Lowering(operator=name, lower=isin) for name in ("isin", "isin.tensor_tensor")),
    Lowering(
        operator="searchsorted",
        lower=searchsorted,
        upstream_gap="one sequence for values of any shape",
        applies=_is_one_sequence,
    ),
)
