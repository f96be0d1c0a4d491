"""Padding by sizes that only the app decides, and sizes themselves: axes are gathered at places that integers compute.

Integers are exact in every precision of the artifact: a place computed in half precision is wrong from 2048 on.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from numbers import Integral

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Size, Unused, Var
from builder.backends.coreml.lowerings.variables import is_float, numpy_dtype, positive, promoted


def is_open(sizes: object) -> bool:
    """Whether a list of sizes has one that only the app decides."""
    return isinstance(sizes, list | tuple) and any(not isinstance(size, Integral) for size in sizes)


def pad_by_sizes(mb: Builder, x: Var, pad: Sequence[Size], mode: str, value: float) -> Var:
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
        before, after = whole(mb, before), whole(mb, after)
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


def places_of(mb: Builder, count: Size) -> Var:
    """The integers from 0 up to `count`."""
    return mb.range_1d(start=0, end=count, step=1)


def pairs_so_far(mb: Builder, x: Var, axis: int) -> tuple[Var, Var, Var]:
    """X with a new axis in front of one whose size the app chooses, which of it are not later, and their places."""
    if x.rank > 4:
        raise NotImplementedError("running along one of five axes is converted over fixed sizes alone")
    places = places_of(mb, axis_size(mb, x, axis))
    shape = [1] * (x.rank + 1)
    upto, each = ([*shape[:at], -1, *shape[at + 1 :]] for at in (axis, axis + 1))
    upto, each = (mb.reshape(x=places, shape=wanted) for wanted in (upto, each))
    return mb.expand_dims(x=x, axes=[axis]), mb.less_equal(x=each, y=upto), each


def axis_size(mb: Builder, x: Var, axis: int) -> Size:
    """The size of an axis: a number, or a variable of rank 0."""
    size = x.shape[positive(axis, x.rank)]
    if isinstance(size, Integral):
        return int(size)
    return mb.squeeze(x=mb.slice_by_size(x=mb.shape(x=x), begin=[positive(axis, x.rank)], size=[1]), axes=[0])


def whole(mb: Builder, size: Size) -> Size:
    """A size as a number or as an int32 variable of rank 0."""
    if isinstance(size, Integral):
        return int(size)
    size = mb.squeeze(x=size) if size.rank else size
    return size if not is_float(size) else mb.cast(x=size, dtype="int32")


def linspace(
    mb: Builder,
    start: Size,
    end: Size,
    steps: Size,
    dtype: Unused = None,
    layout: Unused = None,
    device: Unused = None,
    pin_memory: Unused = None,
) -> Var:
    """`steps` numbers from `start` to `end`, as many as a size says; one number is `start`."""
    import numpy as np

    del dtype, layout, device, pin_memory
    steps = whole(mb, steps)
    places, gaps = (
        mb.cast(x=of, dtype="fp32") for of in (places_of(mb, steps), mb.maximum(x=mb.sub(x=steps, y=1), y=1))
    )
    start, end = (np.float32(of) if isinstance(of, int | float) else mb.cast(x=of, dtype="fp32") for of in (start, end))
    return mb.add(x=mb.mul(x=mb.real_div(x=places, y=gaps), y=mb.sub(x=end, y=start)), y=start)


def _is_counted(steps: Size) -> bool:
    return is_open([steps])


def _vector(mb: Builder, size: Size) -> Var | list[int]:
    return [size] if isinstance(size, int) else mb.expand_dims(x=size, axes=[0])


def mod(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `x % y` of sizes in an exported program."""
    return mb.sub(x=x, y=mb.mul(x=mb.floor_div(x=x, y=y), y=y))


def sym_max(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `max(x, y)` of sizes in an exported program."""
    return mb.maximum(x=x, y=y)


def sym_min(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `min(x, y)` of sizes in an exported program."""
    return mb.minimum(x=x, y=y)


def sym_sum(mb: Builder, sizes: Sequence[Size]) -> Size:
    """The sum of several sizes in an exported program."""
    return reduce(lambda a, b: mb.add(x=a, y=b), (whole(mb, size) for size in sizes))


def sym_float(mb: Builder, x: Var) -> Var:
    """A size as a number with a fraction."""
    return mb.cast(x=x, dtype="fp32")


def sym_not(mb: Builder, x: Var) -> Var:
    """The opposite of a condition on sizes."""
    return mb.logical_not(x=x)


def sym_ite(mb: Builder, condition: Var, x: Var, y: Var) -> Var:
    """One of two sizes, by a condition on sizes."""
    x, y = promoted(x, y)
    return mb.select(cond=condition, a=x, b=y)


def both(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `x & y` of conditions on sizes."""
    return mb.logical_and(x=x, y=y)


def either(mb: Builder, x: Var, y: Var) -> Var:
    """Python's `x | y` of conditions on sizes."""
    return mb.logical_or(x=x, y=y)


FLEXIBLE_SIZES = (
    Lowering(
        operator="linspace", lower=linspace, upstream_gap="numbers of steps that follow from sizes", applies=_is_counted
    ),
    Lowering(operator="mod", lower=mod),
    Lowering(operator="sym_max", lower=sym_max),
    Lowering(operator="sym_min", lower=sym_min),
    Lowering(operator="sym_sum", lower=sym_sum),
    Lowering(operator="sym_float", lower=sym_float),
    Lowering(operator="sym_not", lower=sym_not),
    Lowering(operator="sym_ite", lower=sym_ite),
    Lowering(operator="and_", lower=both, upstream_gap="conditions on sizes"),
    Lowering(operator="or_", lower=either, upstream_gap="conditions on sizes"),
)
