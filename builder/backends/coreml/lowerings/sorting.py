"""Sorting that keeps the order of equals, and what is counted: modes, histograms, medians of what is a number."""

from __future__ import annotations

from typing import Any

from builder.backends.coreml.lowerings.flexible_sizes import axis_size, is_open, places_of, whole
from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Size, Var
from builder.backends.coreml.lowerings.variables import (
    as_float,
    dtype_name,
    is_bool,
    is_float,
    numpy_dtype,
    positive,
    promoted,
    selected,
    slice_axis,
)

_LONGEST = 46340
"""The square of what is longer leaves 32 bits."""


def sorted_stably(mb: Builder, x: Var, dim: int, *, descending: bool) -> tuple[Var, Var]:
    """Values in order along an axis, and their places; of equal ones the first comes first.

    Given:   places p of values v in any order among equals
    Result:  p sorted by `g n + p`, where g counts the values before that differ; of n values, as whole numbers
    """
    if x.rank == 0:
        return mb.identity(x=x), mb.mul(x=mb.cast(x=x, dtype="int32"), y=0)
    axis, truths = positive(dim, x.rank), is_bool(x)
    x = mb.cast(x=x, dtype="int32") if truths else x
    length: Size = x.shape[axis]
    if isinstance(length, int) and length > _LONGEST:
        raise NotImplementedError(f"a stable sort of more than {_LONGEST} values is not converted")
    places = mb.argsort(x=x, axis=axis, ascending=not descending)
    values = mb.gather_along_axis(x=x, indices=places, axis=axis)
    if length != 1:
        differs = mb.not_equal(x=slice_axis(mb, values, axis, 1, None), y=slice_axis(mb, values, axis, 0, -1))
        first = mb.mul(x=slice_axis(mb, places, axis, 0, 1), y=0)
        changes = mb.concat(values=[first, mb.cast(x=differs, dtype="int32")], axis=axis)
        group = mb.cumsum(x=changes, axis=axis)
        count = length if isinstance(length, int) else mb.gather(x=mb.shape(x=x), indices=axis, axis=0)
        order = mb.argsort(x=mb.add(x=mb.mul(x=group, y=count), y=places), axis=axis, ascending=True)
        places = mb.gather_along_axis(x=places, indices=order, axis=axis)
    return mb.cast(x=values, dtype="bool") if truths else values, places


def sort(
    mb: Builder,
    x: Var,
    a: Constant = None,
    b: Constant = None,
    c: Constant = None,
    dim: Constant = None,
    descending: Constant = None,
) -> tuple[Var, Var]:
    """`sort(x, stable, dim, descending)` of a trace, where three arguments are the other form's."""
    del a, dim, descending
    return sorted_stably(mb, x, int(b), descending=bool(c))


def sort_stable(
    mb: Builder, x: Var, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Var, Var]:
    """The same of an exported program."""
    del stable
    return sorted_stably(mb, x, dim, descending=bool(descending))


def argsort(
    mb: Builder,
    x: Var,
    a: Constant = None,
    b: Constant = None,
    c: Constant = None,
    dim: Constant = None,
    descending: Constant = None,
) -> Var:
    """Where the values in order come from."""
    return sort(mb, x, a, b, c, dim, descending)[1]


def _has_stable(c: Constant = None) -> bool:
    return c is not None


def mode(mb: Builder, x: Var, dim: int = -1, keepdim: bool = False) -> tuple[Var, Var]:
    """The value that is there most often along an axis, the least of several, and where it is last."""
    import numpy as np

    if x.rank == 0:
        return mb.identity(x=x), mb.mul(x=mb.cast(x=x, dtype="int32"), y=0)
    axis, kind = positive(dim, x.rank), dtype_name(x)
    whole = mb.cast(x=x, dtype="int32") if is_bool(x) else x
    same = mb.equal(x=mb.expand_dims(x=whole, axes=[axis]), y=mb.expand_dims(x=whole, axes=[axis + 1]))
    counts = mb.reduce_sum(x=mb.cast(x=same, dtype="int32"), axes=[axis], keep_dims=False)
    most = mb.equal(x=counts, y=mb.reduce_max(x=counts, axes=[axis], keep_dims=True))
    limits = np.finfo(np.float32) if is_float(whole) else np.iinfo(np.int32)
    beyond = mb.add(x=mb.mul(x=whole, y=numpy_dtype(whole)(0)), y=numpy_dtype(whole)(limits.max))
    value = mb.reduce_min(x=selected(mb, most, whole, beyond), axes=[axis], keep_dims=True)
    shape = [1] * x.rank
    shape[axis] = -1
    size = axis_size(mb, x, axis)
    places = np.arange(size, dtype=np.int32) if isinstance(size, int) else places_of(mb, size)
    at: Any = mb.reshape(x=places, shape=shape)
    there = mb.cast(x=mb.equal(x=whole, y=value), dtype="int32")
    place = mb.sub(x=mb.reduce_max(x=mb.mul(x=there, y=mb.add(x=at, y=1)), axes=[axis], keep_dims=True), y=1)
    value = mb.cast(x=value, dtype="bool") if kind == "bool" else value
    if keepdim:
        return value, place
    return mb.squeeze(x=value, axes=[axis]), mb.squeeze(x=place, axes=[axis])


def histc(mb: Builder, x: Var, bins: int = 100, min: float = 0.0, max: float = 0.0) -> Var:
    """How many values are in each of `bins` equal parts of a range, the greatest in the last; of all where it is 0.

    Values are compared with the edges of a range that is given: their distance from its start would round those near
    zero, in half precision. Of a range that the values decide, distances are compared: numbers that lie close together
    have exact ones, and no edge of it is below the one before, whatever is rounded. Halves of these, since the distance
    of the largest numbers in half precision is infinite.
    """
    import numpy as np

    x = mb.reshape(x=as_float(x), shape=[1, -1])
    shares = (np.arange(bins + 1, dtype=np.float64) / bins).reshape(-1, 1)
    if min == max == 0:
        x = mb.mul(x=x, y=0.5)
        low, high = (reduced(x=x, axes=[0, 1], keep_dims=True) for reduced in (mb.reduce_min, mb.reduce_max))
        # torch widens the range by one on either side where all values are one
        span, equal = promoted(mb.sub(x=high, y=low), mb.cast(x=mb.equal(x=low, y=high), dtype="fp32"))
        x = mb.add(x=mb.sub(x=x, y=low), y=mb.mul(x=equal, y=0.5))
        span = mb.add(x=span, y=equal)
        edges: Var = mb.mul(x=span, y=shares.astype(np.float32))
    else:
        edges = (float(min) * (1 - shares) + float(max) * shares).astype(np.float32)
    reached = mb.cast(x=mb.greater_equal(x=x, y=edges), dtype="int32")
    beyond = mb.cast(x=mb.greater(x=x, y=edges), dtype="int32")
    counts = mb.reduce_sum(x=reached, axes=[1], keep_dims=False)
    over = mb.reduce_sum(x=slice_axis(mb, beyond, 0, bins, None), axes=[1], keep_dims=False)
    after = mb.concat(values=[slice_axis(mb, counts, 0, 1, bins), over], axis=0) if bins > 1 else over
    return mb.cast(x=mb.sub(x=slice_axis(mb, counts, 0, 0, bins), y=after), dtype="fp32")


def nanmedian(mb: Builder, x: Var, dim: int | None = None, keepdim: bool = False) -> Var | tuple[Var, Var]:
    """The lower of the two in the middle of what is a number, along an axis with its place, or of all elements."""
    import numpy as np

    if dim is None:
        return nanmedian(mb, mb.reshape(x=x, shape=[-1]), 0)[0]
    x = as_float(x)
    axis = positive(dim, x.rank)
    known = mb.equal(x=x, y=x)
    high = mb.add(x=mb.mul(x=mb.cast(x=known, dtype="fp32"), y=0.0), y=np.float32(np.inf))
    values, places = sorted_stably(mb, selected(mb, known, x, promoted(x, high)[1]), axis, descending=False)
    count = mb.reduce_sum(x=mb.cast(x=known, dtype="int32"), axes=[axis], keep_dims=True)
    middle = mb.floor_div(x=mb.maximum(x=mb.sub(x=count, y=1), y=0), y=2)
    value = mb.gather_along_axis(x=values, indices=middle, axis=axis)
    place = mb.gather_along_axis(x=places, indices=middle, axis=axis)
    nothing = mb.mul(x=promoted(x, mb.cast(x=mb.equal(x=count, y=0), dtype="fp32"))[1], y=np.float32(np.nan))
    value = selected(mb, mb.equal(x=count, y=0), nothing, value)
    if keepdim:
        return value, place
    return mb.squeeze(x=value, axes=[axis]), mb.squeeze(x=place, axes=[axis])


def open_one_hot(mb: Builder, x: Var, num_classes: Any) -> Var:
    """Ones at the places that integers name, of as many as a size says."""
    places = places_of(mb, whole(mb, num_classes))
    return mb.cast(x=mb.equal(x=mb.expand_dims(x=x, axes=[-1]), y=places), dtype="int32")


def _is_counted(num_classes: Any = -1) -> bool:
    return is_open([num_classes])


def bincount(mb: Builder, x: Var, weights: Var | None = None, minlength: int = 0) -> Var:
    """Refused: as many counts as the greatest value says."""
    raise NotImplementedError(
        "bincount gives as many counts as the greatest value says, and Core ML's sizes do not depend on values: "
        "write `torch.nn.functional.one_hot(x, n).sum(0)`"
    )


SORTING = (
    *(
        Lowering(operator=name, lower=lower, upstream_gap="the order of equal values", applies=_has_stable)
        for name, lower in (("sort", sort), ("argsort", argsort))
    ),
    Lowering(operator="sort.stable", lower=sort_stable),
    Lowering(operator="mode", lower=mode),
    Lowering(operator="one_hot", lower=open_one_hot, upstream_gap="sizes that the app chooses", applies=_is_counted),
    Lowering(operator="histc", lower=histc),
    *(Lowering(operator=name, lower=nanmedian) for name in ("nanmedian", "nanmedian.dim")),
    Lowering(operator="bincount", lower=bincount),
)
