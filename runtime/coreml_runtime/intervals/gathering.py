"""Bounds of operators that join tensors, read or write by index, or give indices and sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from coreml_runtime.intervals.context import Operand, Outputs, table
from coreml_runtime.intervals.interval import (
    MOST,
    Interval,
    anything,
    as_interval,
    everywhere,
    hull,
    make,
    reduced,
    widened,
)
from coreml_runtime.intervals.moving import placed, whole
from coreml_runtime.intervals.reduction import indices as places


def concat(*, values: Sequence[Operand], axis: int, interleave: bool = False, outputs: Outputs) -> Interval:
    """Joined along an axis."""
    parts = [as_interval(value) for value in values]
    rank = len(outputs.sizes)
    counts = [part.sizes[axis] if part.sizes else 1 for part in parts]
    known = not interleave and None not in counts and all(len(part.sizes) == rank for part in parts) and rank > 0
    if not known or sum(count or 0 for count in counts) > MOST:
        return hull(parts, outputs.sizes)
    place = axis % rank
    flat = [reduced(part, [other for other in range(rank) if other != place]) for part in parts]
    low, high = (
        torch.cat([_long(bound, place, count or 0) for bound, count in zip(bounds, counts, strict=True)], place)
        for bounds in ([part.low for part in flat], [part.high for part in flat])
    )
    made = make(low, high, outputs.sizes, nan=any(part.nan for part in parts))
    return replace(made, reached=all(part.reached for part in parts))


def _long(bound: Tensor, axis: int, count: int) -> Tensor:
    """A bound with the full size along an axis."""
    shape = list(bound.shape)
    shape[axis] = count
    return bound.expand(shape)


def stack(*, values: Sequence[Operand], outputs: Outputs, **_: object) -> Interval:
    """Joined along a new axis."""
    return hull([as_interval(value) for value in values], outputs.sizes)


def gather(
    *, x: Operand, indices: Operand, axis: int = 0, batch_dims: int = 0, outputs: Outputs, **_: object
) -> Interval:
    """Slices of x along an axis: bounds along the other axes stay apart."""
    given = as_interval(x)
    rank = len(given.sizes)
    if batch_dims or not rank:
        return whole(given, outputs.sizes)
    place = axis % rank
    flat = reduced(given, [place])
    added = len(outputs.sizes) - rank + 1
    shape = [*flat.low.shape[:place], *(1,) * added, *flat.low.shape[place + 1 :]]
    del indices
    return placed(given, flat.low.reshape(shape), flat.high.reshape(shape), outputs.sizes, once=False)


def band_part(*, x: Interval, outputs: Outputs, **_: object) -> Interval:
    """x, or zero."""
    return everywhere(min(x.least, 0.0), max(x.greatest, 0.0), outputs.sizes, nan=x.nan)


def slice_update(*, x: Operand, update: Operand, outputs: Outputs, **_: object) -> Interval:
    """x, or values of the update."""
    return hull([as_interval(x), as_interval(update)], outputs.sizes)


def scatter(
    *, data: Operand, updates: Operand, indices: Operand, mode: str = "add", outputs: Outputs, **_: object
) -> Interval:
    """The data with updates put in their places, or added, any number of times at one place."""
    a, b = as_interval(data), as_interval(updates)
    if mode in ("update", "max", "min"):
        return hull([a, b], outputs.sizes)
    sizes = as_interval(indices).sizes
    if mode not in ("add", "sub") or None in sizes:
        return anything(outputs.sizes)
    count = math.prod(size or 0 for size in sizes)
    low, high = (b.least, b.greatest) if mode == "add" else (-b.greatest, -b.least)
    made = everywhere(a.least + min(low * count, 0.0), a.greatest + max(high * count, 0.0), outputs.sizes)
    slack = (a.magnitude + b.magnitude * count) * (count + 1) * 2.0**-23
    nan = a.nan or b.nan or math.isinf(slack)
    return replace(widened(made, 0.0, 0.0 if math.isinf(slack) else slack, keeps_sign=False), nan=nan)


def one_hot(
    *, on_value: Operand | None = None, off_value: Operand | None = None, outputs: Outputs, **_: object
) -> Interval:
    """One of two values."""
    on = everywhere(1, 1, ()) if on_value is None else as_interval(on_value)
    off = everywhere(0, 0, ()) if off_value is None else as_interval(off_value)
    return hull([on, off], outputs.sizes)


def topk(*, x: Interval, axis: int = -1, outputs: Outputs, **_: object) -> Interval | tuple[Interval, ...]:
    """The largest values along an axis, and their indices."""
    values = whole(x, outputs.sizes)
    if len(outputs.types) == 1:
        return values
    second = outputs.types[1]
    return values, places(x.sizes[axis], () if second is None else second.shape)


def argsort(*, x: Interval, axis: int = -1, outputs: Outputs, **_: object) -> Interval:
    """Indices along an axis."""
    return places(x.sizes[axis], outputs.sizes)


def range_1d(*, start: Operand, end: Operand, step: Operand, outputs: Outputs) -> Interval:
    """From start towards end."""
    del step
    return hull([as_interval(start), as_interval(end)], outputs.sizes)


def shape(*, x: Interval, outputs: Outputs) -> Interval:
    """Sizes: as declared, or anything from 0 on."""
    known = [size for size in x.sizes if size is not None]
    if len(known) < len(x.sizes) or not known:
        return everywhere(0, math.inf, outputs.sizes)
    return everywhere(min(known), max(known), outputs.sizes)


def non_zero(*, x: Interval, outputs: Outputs) -> Interval:
    """Places of elements."""
    sizes = [math.inf if size is None else max(size - 1, 0) for size in x.sizes]
    return everywhere(0, max(sizes, default=0), outputs.sizes)


TRANSFERS = {
    **table(concat, stack, gather, band_part, slice_update, scatter, one_hot, topk, argsort, range_1d, shape, non_zero),
    "space_to_batch": band_part,
    "scatter_nd": scatter,
    "scatter_along_axis": scatter,
}
