"""Max pooling that says where the maxima were, and its way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial

from builder.backends.coreml.lowerings.flexible_sizes import is_open
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Unused, Var
from builder.backends.coreml.lowerings.pooling import (
    Sizes,
    adaptive,
    dilated_max_pool,
    each_axis,
    is_dilated,
    windows_of,
)
from builder.backends.coreml.lowerings.variables import fixed_shape, fixed_size, take


def max_pool_with_places(
    dimensions: int,
    mb: Builder,
    x: Var,
    kernel_size: Sizes,
    stride: Sizes = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Var, Var]:
    """The maxima over windows of the last axes, and where each was, counted through these axes; of equals the first.

    A place of the window that lies in the padding is taken by the first one inside: the maximum is the same.
    """
    kernels, paddings, dilations = (each_axis(given, dimensions) for given in (kernel_size, padding, dilation))
    strides = each_axis(stride, dimensions) if stride else kernels
    lengths = [fixed_size(x, axis - dimensions, "max pooling with indices") for axis in range(dimensions)]
    ceil = bool(ceil_mode)
    rows = [
        windows_of(*sizes, ceil_mode=ceil) for sizes in zip(lengths, kernels, strides, paddings, dilations, strict=True)
    ]
    greatest = dilated_max_pool(dimensions, mb, x, kernel_size, stride, padding, dilation, ceil_mode)
    return greatest, _places(mb, x, rows, lengths)


def adaptive_max_pool(dimensions: int, mb: Builder, x: Var, output_size: Sizes) -> tuple[Var, ...]:
    """The same over windows of which there are `output_size`."""
    pooled = adaptive(mb, x, output_size, "reduce_max", dimensions)
    if is_open(list(x.shape[-dimensions:])):
        return (pooled,)  # nobody reads the places (`_is_asked_for_places`)
    lengths = [fixed_size(x, axis - dimensions, "adaptive max pooling") for axis in range(dimensions)]
    sizes = [size or length for size, length in zip(each_axis(output_size, dimensions), lengths, strict=True)]
    rows = []
    for length, size in zip(lengths, sizes, strict=True):
        edges = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        widest = max(end - begin for begin, end in edges)
        rows.append([[min(begin + i, end - 1) for i in range(widest)] for begin, end in edges])
    return pooled, _places(mb, x, rows, lengths)


def _places(mb: Builder, x: Var, rows: Sequence[Sequence[Sequence[int]]], lengths: Sequence[int]) -> Var:
    """Where the greatest value of each window is; `rows` has for each axis the places of each window."""
    import numpy as np

    dimensions = len(rows)
    lead = fixed_shape(x, "max pooling with indices")[: x.rank - dimensions]
    best: Var = None
    place: Var = None
    for offsets in itertools.product(*(range(len(axis[0])) for axis in rows)):
        value, where = x, np.zeros([1] * dimensions, dtype=np.int64)
        for axis, offset in enumerate(offsets):
            indices = [window[offset] for window in rows[axis]]
            value = take(mb, value, axis - dimensions, indices)
            shape = [1] * dimensions
            shape[axis] = len(indices)
            where = where + np.array(indices).reshape(shape) * math.prod(lengths[axis + 1 :])
        here = mb.const(val=np.broadcast_to(where, [*lead, *map(len, rows)]).astype(np.int32).copy())
        if best is None:
            best, place = mb.identity(x=value), mb.identity(x=here)
            continue
        wins = mb.logical_or(x=mb.greater(x=value, y=best), y=mb.not_equal(x=value, y=value))
        best, place = mb.select(cond=wins, a=value, b=best), mb.select(cond=wins, a=here, b=place)
    return place


def max_unpool(dimensions: int, mb: Builder, x: Var, indices: Var, output_size: Sizes, *more: Unused) -> Var:
    """Values put where the maxima were in a picture of `output_size`, zeros elsewhere."""
    import numpy as np

    del more
    sizes, own = each_axis(output_size, dimensions), fixed_shape(x, "max_unpool")
    lead = own[: x.rank - dimensions]
    flat = [math.prod(lead), math.prod(own[x.rank - dimensions :])]
    values, places = (mb.reshape(x=each, shape=flat) for each in (x, indices))
    nothing = np.zeros([flat[0], math.prod(sizes)], dtype=np.float32)
    places = mb.cast(x=places, dtype="int32")
    spread = mb.scatter_along_axis(data=nothing, indices=places, updates=values, axis=1, mode="update")
    return mb.reshape(x=spread, shape=[*lead, *sizes])


def max_unpool2d(mb: Builder, x: Var, indices: Var, output_size: Sizes) -> Var:
    """Of pictures, and of rows, which torch takes for pictures one line high."""
    return max_unpool(2, mb, x, indices, output_size)


def max_unpool3d(
    mb: Builder, x: Var, indices: Var, output_size: Sizes, stride: Sizes = None, padding: Sizes = None
) -> Var:
    """Of volumes."""
    del stride, padding
    return max_unpool(3, mb, x, indices, output_size)


def _is_more_than_values(second_is_read: bool, dilation: Sizes = 1) -> bool:
    return second_is_read or is_dilated(dilation)


def _is_asked_for_places(dimensions: int, x: Var, second_is_read: bool) -> bool:
    """Whether somebody reads the second result, or the app chooses a size, where nobody may."""
    flexible = is_open(list(x.shape[-dimensions:]))
    if flexible and second_is_read:
        raise NotImplementedError("adaptive max pooling with indices over a flexible dimension is not converted")
    return second_is_read or flexible


_PLACES = "where the maxima were, and windows with gaps (dilation)"

INDEXED_POOLING = (
    *(
        Lowering(
            operator=name.format(dimensions),
            lower=partial(lower, dimensions),
            upstream_gap=_PLACES,
            applies=applies(dimensions),
        )
        for dimensions in (1, 2, 3)
        for name, lower, applies in (
            ("max_pool{}d_with_indices", max_pool_with_places, lambda _: _is_more_than_values),
            ("adaptive_max_pool{}d", adaptive_max_pool, lambda count: partial(_is_asked_for_places, count)),
        )
    ),
    Lowering(operator="max_unpool2d", lower=max_unpool2d),
    Lowering(operator="max_unpool3d", lower=max_unpool3d),
)
