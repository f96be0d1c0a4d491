"""Order statistics: what stands at a place when values are sorted."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from builder.backends.coreml.lowerings.flexible_sizes import axis_size, is_open, whole
from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Size, UpstreamBug, Var
from builder.backends.coreml.lowerings.reduction import bucketize, places_among
from builder.backends.coreml.lowerings.sorting import sorted_stably
from builder.backends.coreml.lowerings.variables import as_float, fixed_size, positive, promoted, slice_axis

_DENOMINATOR = 2000
"""The greatest of a share of the sizes that an app chooses: half precision holds all rests exactly."""


def kthvalue(mb: Builder, x: Var, k: Size, dim: int = -1, keepdim: bool = False) -> tuple[Var, Var]:
    """The k-th smallest along an axis, counted from 1, and where it was."""
    if is_open([k]):
        return _at(mb, x, dim, mb.sub(x=whole(mb, k), y=1), keepdim=keepdim)
    if is_open([x.shape[dim]]):
        return _at(mb, x, dim, k - 1, keepdim=keepdim)
    values, places = mb.topk(x=x, k=k, axis=dim, ascending=True)
    last = [slice_axis(mb, sorted_, dim, k - 1, k) for sorted_ in (values, places)]
    value, place = last if keepdim else [mb.squeeze(x=each, axes=[positive(dim, x.rank)]) for each in last]
    return value, place


def _at(mb: Builder, x: Var, dim: int, rank: Var | int, *, keepdim: bool) -> tuple[Var, Var]:
    """What stands at a place, from 0, when an axis whose size the app chooses is sorted, and where it was."""
    axis = positive(dim, x.rank)
    found = [
        mb.gather(x=ordered, indices=mb.reshape(x=rank, shape=[1]) if hasattr(rank, "rank") else [rank], axis=axis)
        for ordered in sorted_stably(mb, x, axis, descending=False)
    ]
    value, place = found if keepdim else [mb.squeeze(x=each, axes=[axis]) for each in found]
    return value, place


def topk(mb: Builder, x: Var, k: Size, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Var, Var]:
    """The first of all in order, as many as a size says."""
    del sorted
    ordered = sorted_stably(mb, x, dim, descending=bool(largest))
    values, places = (slice_axis(mb, each, dim, 0, whole(mb, k)) for each in ordered)
    return values, places


def _is_counted(k: Size) -> bool:
    return is_open([k])


def median(mb: Builder, x: Var, dim: int | None = None, keepdim: bool = False) -> Var | tuple[Var, Var]:
    """The lower of the two in the middle, along an axis with its place, or of all elements."""
    if dim is None:
        return median(mb, mb.reshape(x=x, shape=[-1]), 0)[0]
    if is_open([x.shape[dim]]):
        last = mb.sub(x=axis_size(mb, x, dim), y=1)
        return _at(mb, x, dim, mb.floor_div(x=last, y=2), keepdim=bool(keepdim))
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
    if is_open([x.shape[axis]]):
        return _open_quantile(mb, x, q, axis, keepdim=bool(keepdim))
    size = fixed_size(x, axis, "quantile")
    ordered, _ = mb.topk(x=x, k=size, axis=axis, ascending=True)

    def at(fraction: float) -> Var:
        place = fraction * (size - 1)
        low, high = math.floor(place), math.ceil(place)
        lower, upper = (slice_axis(mb, ordered, axis, edge, edge + 1) for edge in (low, high))
        value = mb.add(x=lower, y=mb.mul(x=mb.sub(x=upper, y=lower), y=float(place - low)))
        return value if keepdim else mb.squeeze(x=value, axes=[positive(axis, x.rank)])

    return mb.stack(values=[at(each) for each in q], axis=0) if isinstance(q, list) else at(q)


def _open_quantile(mb: Builder, x: Var, q: Any, axis: int, *, keepdim: bool) -> Var:
    """The same over an axis whose size n the app chooses, its place in integers: `q = p / d`, `(n - 1) p // d`."""
    axis = positive(axis, x.rank)
    ordered, _ = sorted_stably(mb, x, axis, descending=False)
    last = mb.sub(x=axis_size(mb, x, axis), y=1)

    def at(fraction: float) -> Var:
        share = Fraction(fraction).limit_denominator(_DENOMINATOR)
        scaled = mb.mul(x=last, y=share.numerator)
        low = mb.floor_div(x=scaled, y=share.denominator)
        rest = mb.sub(x=scaled, y=mb.mul(x=low, y=share.denominator))
        lower, upper = (
            mb.gather(x=ordered, indices=mb.reshape(x=place, shape=[1]), axis=axis)
            for place in (low, mb.minimum(x=mb.add(x=low, y=1), y=last))
        )
        weight = mb.mul(x=mb.cast(x=rest, dtype="fp32"), y=1 / share.denominator)
        value = mb.add(x=lower, y=mb.mul(x=mb.sub(x=upper, y=lower), y=weight))
        return value if keepdim else mb.squeeze(x=value, axes=[axis])

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
    """Where each element of x belongs in one sorted sequence (B,), or in that of its row (…, B)."""
    if sorter is not None:
        sorted_sequence = mb.gather_along_axis(x=sorted_sequence, indices=sorter, axis=sorted_sequence.rank - 1)
    right = bool(right or side == "right")
    if sorted_sequence.rank == 1:
        return bucketize(mb, x, sorted_sequence, out_int32, right)
    each, edges = promoted(mb.expand_dims(x=x, axes=[-1]), mb.expand_dims(x=sorted_sequence, axes=[-2]))
    return places_among(mb, each, edges, right=right)


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


ORDER = (
    Lowering(operator="kthvalue", lower=kthvalue),
    Lowering(operator="topk", lower=topk, upstream_gap="as many as a size says", applies=_is_counted),
    *(Lowering(operator=name, lower=median) for name in ("median", "median.dim")),
    Lowering(operator="quantile", lower=quantile),
    Lowering(operator="msort", lower=msort),
    *(Lowering(operator=name, lower=isin) for name in ("isin", "isin.tensor_tensor")),
    Lowering(
        operator="searchsorted",
        lower=searchsorted,
        wrong=UpstreamBug(issue=None, summary="gives 0 for NaN, and lacks one sequence for values of any shape"),
    ),
)
