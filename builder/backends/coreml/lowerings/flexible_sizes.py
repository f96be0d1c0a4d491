"""Padding and resizing by sizes that only the app decides: each axis is gathered at places that integers compute.

Integers are exact in every precision of the artifact: a place computed in half precision is wrong from 2048 on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from numbers import Integral
from typing import Any

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import is_float, numpy_dtype, positive, promoted

_LONGEST = 8192
"""The sizes up to which a scale factor, taken as a fraction, must give the size that torch's product gives."""


def is_open(sizes: Any) -> bool:
    """Whether a list of sizes has one that only the app decides."""
    return isinstance(sizes, list | tuple) and any(not isinstance(size, Integral) for size in sizes)


def pad_by_sizes(mb: Builder, x: Var, pad: Sequence[Any], mode: str, value: float) -> Var:
    """Pad each axis by numbers that may be variables; a negative one cuts off.

    Given:   x (…, L, …), widths b and a
    Result:  places = range(-b, L + a), folded into 0 … L-1 by the mode, or L for a constant;  gather(x, places)
    """
    for index in range(len(pad) // 2):
        before, after = pad[2 * index], pad[2 * index + 1]
        if before == 0 and after == 0:  # of variables, the comparison is false
            continue
        axis = x.rank - 1 - index
        length = axis_size(mb, x, axis)
        before, after = _whole(mb, before), _whole(mb, after)
        count = mb.add(x=mb.add(x=length, y=before), y=after)
        places = mb.sub(x=mb.range_1d(start=0, end=count, step=1), y=before)
        if mode == "constant":
            x = _with_one_more(mb, x, axis, value)
        x = mb.gather(x=x, indices=_folded(mb, places, length, mode), axis=axis)
    return x


def _folded(mb: Builder, places: Var, length: Var, mode: str) -> Var:
    """Places inside the axis for those before and behind it; `length` stands for the constant."""
    last = mb.sub(x=length, y=1)
    if mode == "constant":
        outside = mb.logical_or(x=mb.less(x=places, y=0), y=mb.greater(x=places, y=last))
        return mb.select(cond=outside, a=mb.add(x=mb.mul(x=places, y=0), y=length), b=places)
    if mode == "replicate":
        return mb.minimum(x=mb.maximum(x=places, y=0), y=last)
    if mode == "reflect":
        mirrored = mb.sub(x=last, y=_distance(mb, mb.sub(x=last, y=places)))
        return _distance(mb, mirrored)
    if mode == "circular":
        return mb.sub(x=places, y=mb.mul(x=mb.floor_div(x=places, y=length), y=length))
    raise NotImplementedError(f"{mode} padding by a size is not converted")


def _distance(mb: Builder, places: Var) -> Var:
    return mb.maximum(x=places, y=mb.sub(x=0, y=places))


def _with_one_more(mb: Builder, x: Var, axis: int, value: float) -> Var:
    """X with one entry of `value` behind the last of an axis."""
    sizes = [1 if i == axis else axis_size(mb, x, i) for i in range(x.rank)]
    shape = sizes if not is_open(sizes) else mb.concat(values=[_vector(mb, size) for size in sizes], axis=0)
    entry = mb.fill(shape=shape, value=numpy_dtype(x)(value))
    return mb.concat(values=promoted(x, entry), axis=axis)


def bilinear(
    mb: Builder,
    x: Var,
    output_size: Any,
    align_corners: bool,
    scale_factors: Any = None,
    scales_w: float | None = None,
) -> Var:
    """Linear resizing of the last axes: `x[i] + w (x[i + 1] - x[i])`, i and w from exact fractions of integers."""
    for axis, steps in _axes(mb, x, output_size, scale_factors, scales_w):
        x = _interpolated(mb, x, axis, steps, align_corners=bool(align_corners))
    return x


def nearest(mb: Builder, x: Var, output_size: Any, scale_factors: Any = None, scales_w: float | None = None) -> Var:
    """Nearest neighbours: entry `floor(p * old / new)`."""
    for axis, (old, new, numerator, denominator) in _axes(mb, x, output_size, scale_factors, scales_w):
        places = mb.floor_div(x=mb.mul(x=_places(mb, new), y=numerator), y=denominator)
        places = mb.minimum(x=places, y=mb.sub(x=old, y=1))
        x = mb.gather(x=x, indices=places, axis=axis)
    return x


Steps = tuple[Any, Any, Any, Any]
"""The old and the new size of an axis, and the step from one entry to the next as numerator and denominator."""


def _axes(
    mb: Builder, x: Var, output_size: Any, scale_factors: Any, scales_w: float | None
) -> Sequence[tuple[int, Steps]]:
    count = x.rank - 2
    given = scale_factors if isinstance(scale_factors, list) else [scale_factors, scales_w]
    factors = [None if factor is None else float(factor) for factor in (*given, *[None] * count)][:count]
    found = []
    for index in range(count):
        axis, factor = x.rank - count + index, factors[index]
        old = axis_size(mb, x, axis)
        size = None if output_size is None else output_size[index]
        if factor is None:
            if size is None:
                raise NotImplementedError("resizing without a size is not converted")
            new = _whole(mb, size)
            found.append((axis, (old, new, old, new)))
        else:
            fraction = _fraction(factor)
            a, b = fraction.numerator, fraction.denominator
            new = mb.floor_div(x=mb.mul(x=old, y=a), y=b) if size is None or is_open([size]) else size
            found.append((axis, (old, new, b, a)))
    return found


def _fraction(factor: float) -> Fraction:
    """The scale as a fraction. Raises NotImplementedError where that would give another size than torch's product."""
    fraction = Fraction(factor).limit_denominator(1024)
    a, b = fraction.numerator, fraction.denominator
    if any(math.floor(length * factor) != length * a // b for length in range(1, _LONGEST)):
        raise NotImplementedError(
            f"resizing flexible sizes by {factor:g} is not converted: it is not a simple fraction"
        )
    return fraction


def _interpolated(mb: Builder, x: Var, axis: int, steps: Steps, *, align_corners: bool) -> Var:
    old, new, numerator, denominator = steps
    places, last = _places(mb, new), mb.sub(x=old, y=1)
    if align_corners:  # p (old - 1) / (new - 1)
        below = mb.maximum(x=mb.sub(x=new, y=1), y=1)
        above = mb.mul(x=places, y=last)
    else:  # ((2 p + 1) numerator - denominator) / (2 denominator), not below 0
        below = mb.mul(x=denominator, y=2)
        above = mb.sub(x=mb.mul(x=mb.add(x=mb.mul(x=places, y=2), y=1), y=numerator), y=denominator)
        above = mb.maximum(x=above, y=0)
    first = mb.minimum(x=mb.floor_div(x=above, y=below), y=last)
    second = mb.minimum(x=mb.add(x=first, y=1), y=last)
    rest = mb.sub(x=above, y=mb.mul(x=first, y=below))
    weight = mb.real_div(x=mb.cast(x=rest, dtype="fp32"), y=mb.cast(x=below, dtype="fp32"))
    weight = mb.expand_dims(x=weight, axes=list(range(1, x.rank - axis))) if axis < x.rank - 1 else weight
    if not is_float(x):
        x = mb.cast(x=x, dtype="fp32")
    start, end = (mb.gather(x=x, indices=places, axis=axis) for places in (first, second))
    change, weight = promoted(mb.sub(x=end, y=start), weight)
    return mb.add(x=start, y=mb.mul(x=change, y=weight))


def _places(mb: Builder, count: Any) -> Var:
    return mb.range_1d(start=0, end=count, step=1)


def axis_size(mb: Builder, x: Var, axis: int) -> Any:
    """The size of an axis: a number, or a variable of rank 0."""
    size = x.shape[positive(axis, x.rank)]
    if isinstance(size, Integral):
        return int(size)
    return mb.squeeze(x=mb.slice_by_size(x=mb.shape(x=x), begin=[positive(axis, x.rank)], size=[1]), axes=[0])


def _whole(mb: Builder, size: Any) -> Any:
    """A size as a number or as an int32 variable of rank 0."""
    if isinstance(size, Integral):
        return int(size)
    size = mb.squeeze(x=size) if size.rank else size
    return size if not is_float(size) else mb.cast(x=size, dtype="int32")


def linspace(
    mb: Builder,
    start: Any,
    end: Any,
    steps: Any,
    dtype: Any = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> Var:
    """`steps` numbers from `start` to `end`, as many as a size says; one number is `start`."""
    import numpy as np

    del dtype, layout, device, pin_memory
    steps = _whole(mb, steps)
    places, gaps = (mb.cast(x=of, dtype="fp32") for of in (_places(mb, steps), mb.maximum(x=mb.sub(x=steps, y=1), y=1)))
    start, end = (np.float32(of) if isinstance(of, int | float) else mb.cast(x=of, dtype="fp32") for of in (start, end))
    return mb.add(x=mb.mul(x=mb.real_div(x=places, y=gaps), y=mb.sub(x=end, y=start)), y=start)


def _is_counted(steps: Any) -> bool:
    return is_open([steps])


def _vector(mb: Builder, size: Any) -> Any:
    return [size] if isinstance(size, int) else mb.expand_dims(x=size, axes=[0])


def _is_open_resize(
    x: Var, output_size: Any, align_corners: bool = False, scale_factors: Any = None, scales_w: float | None = None
) -> bool:
    """Whether a size is known to the app alone, or a factor does not give a whole size, or may not give one."""
    if is_open(output_size):
        return True
    given = scale_factors if isinstance(scale_factors, list) else [scale_factors, scales_w]
    sizes = x.shape[2:]
    if not all(isinstance(size, Integral) for size in sizes):
        return any(factor is None or float(factor) != int(factor) for factor in given[: len(sizes)])
    pairs = zip(sizes, given, strict=False)
    return not align_corners and any(factor is not None and (size * float(factor)) % 1 for size, factor in pairs)


def _is_open_nearest(x: Var, output_size: Any, scale_factors: Any = None, scales_w: float | None = None) -> bool:
    return _is_open_resize(x, output_size, False, scale_factors, scales_w)


def mod(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `x % y` of sizes in an exported program."""
    return mb.sub(x=x, y=mb.mul(x=mb.floor_div(x=x, y=y), y=y))


def sym_max(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `max(x, y)` of sizes in an exported program."""
    return mb.maximum(x=x, y=y)


def sym_min(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `min(x, y)` of sizes in an exported program."""
    return mb.minimum(x=x, y=y)


_LACKS = "sizes of other tensors, and factors that give no whole size"
FLEXIBLE_SIZES = (
    Lowering(
        operator="linspace", lower=linspace, upstream_gap="numbers of steps that follow from sizes", applies=_is_counted
    ),
    Lowering(operator="mod", lower=mod),
    Lowering(operator="sym_max", lower=sym_max),
    Lowering(operator="sym_min", lower=sym_min),
    *(
        Lowering(operator=f"{name}{overload}", lower=lower, upstream_gap=_LACKS, applies=applies)
        for name, lower, applies in (
            ("upsample_bilinear2d", bilinear, _is_open_resize),
            ("upsample_linear1d", bilinear, _is_open_resize),
            ("upsample_nearest2d", nearest, _is_open_nearest),
            ("upsample_nearest1d", nearest, _is_open_nearest),
        )
        for overload in ("", ".vec")
    ),
)
