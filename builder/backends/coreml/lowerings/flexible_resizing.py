"""Resizing to sizes that only the app decides: each axis is gathered at places that integers compute.

Integers are exact in every precision of the artifact: a place computed in half precision is wrong from 2048 on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from functools import reduce
from numbers import Integral

from builder.backends.coreml.lowerings.flexible_sizes import axis_size, is_open, places_of, whole
from builder.backends.coreml.lowerings.lowering import Builder, Constant, Lowering, Size, Sizes, Var
from builder.backends.coreml.lowerings.variables import is_float, promoted

_LONGEST = 8192
"""The sizes up to which a scale factor, taken as a fraction, must give the size that torch's product gives."""


def bilinear(
    mb: Builder,
    x: Var,
    output_size: Sizes,
    align_corners: bool,
    scale_factors: Constant = None,
    scales_w: float | None = None,
) -> Var:
    """Linear resizing of the last axes: `x[i] + w (x[i + 1] - x[i])`, i and w from exact fractions of integers."""
    for axis, steps in _axes(mb, x, output_size, scale_factors, scales_w):
        x = interpolated(mb, x, axis, *_exact_places(mb, steps, align_corners=bool(align_corners)))
    return x


def nearest(
    mb: Builder, x: Var, output_size: Sizes, scale_factors: Constant = None, scales_w: float | None = None
) -> Var:
    """Nearest neighbours: entry `floor(p * old / new)`."""
    for axis, (old, new, numerator, denominator) in _axes(mb, x, output_size, scale_factors, scales_w):
        places = mb.floor_div(x=mb.mul(x=places_of(mb, new), y=numerator), y=denominator)
        places = mb.minimum(x=places, y=mb.sub(x=old, y=1))
        x = mb.gather(x=x, indices=places, axis=axis)
    return x


def nearest_exact(
    mb: Builder, x: Var, output_size: Sizes, scale_factors: Constant = None, scales_w: float | None = None
) -> Var:
    """Nearest neighbours of the middles: entry `floor((2 p + 1) old / (2 new))`."""
    for axis, (old, new, numerator, denominator) in _axes(mb, x, output_size, scale_factors, scales_w):
        above = mb.mul(x=odd(mb, places_of(mb, new)), y=numerator)
        places = mb.floor_div(x=above, y=mb.mul(x=denominator, y=2))
        x = mb.gather(x=x, indices=mb.minimum(x=places, y=mb.sub(x=old, y=1)), axis=axis)
    return x


_A = -0.75
"""torch's coefficient of cubic convolution (Keys, 1981; ATen's UpSample.h)."""


def bicubic(
    mb: Builder,
    x: Var,
    output_size: Sizes,
    align_corners: bool,
    scale_factors: Constant = None,
    scales_w: float | None = None,
) -> Var:
    """Cubic resizing of the last two axes: four entries around each place, those outside as the one at the edge."""
    for axis, steps in _axes(mb, x, output_size, scale_factors, scales_w):
        x = cubic(mb, x, axis, *_exact_places(mb, steps, align_corners=align_corners))
    return x


def cubic(mb: Builder, x: Var, axis: int, above: Var, below: Var, last: Var) -> Var:
    """Four entries around `above / below`, those outside as the one at the edge."""
    first = mb.floor_div(x=above, y=below)
    share = _rest(mb, above, first, below)
    parts = []
    for tap, weight in zip(range(-1, 3), _cubic_weights(mb, share), strict=True):
        at = mb.minimum(x=mb.maximum(x=mb.add(x=first, y=tap), y=0), y=last)
        entries = mb.gather(x=x, indices=at, axis=axis)
        weight = mb.expand_dims(x=weight, axes=list(range(1, x.rank - axis))) if axis < x.rank - 1 else weight
        parts.append(mb.mul(**dict(zip("xy", promoted(entries, weight), strict=True))))
    return reduce(lambda a, b: mb.add(x=a, y=b), parts)


def _cubic_weights(mb: Builder, share: Var) -> list[Var]:
    """The weights of the four entries around a place that lies `share` behind the second."""
    import numpy as np

    def near(t: Var) -> Var:  # ((A + 2) t - (A + 3)) t^2 + 1
        inner = mb.sub(x=mb.mul(x=t, y=np.float32(_A + 2)), y=np.float32(_A + 3))
        return mb.add(x=mb.mul(x=mb.mul(x=inner, y=t), y=t), y=np.float32(1))

    def far(t: Var) -> Var:  # ((A t - 5 A) t + 8 A) t - 4 A
        inner = mb.add(
            x=mb.mul(x=mb.sub(x=mb.mul(x=t, y=np.float32(_A)), y=np.float32(5 * _A)), y=t), y=np.float32(8 * _A)
        )
        return mb.sub(x=mb.mul(x=inner, y=t), y=np.float32(4 * _A))

    other = mb.sub(x=np.float32(1), y=share)
    beyond = [mb.add(x=each, y=np.float32(1)) for each in (share, other)]
    return [far(beyond[0]), near(share), near(other), far(beyond[1])]


def odd(mb: Builder, places: Var) -> Var:
    """`2 p + 1`: twice the middle of each entry."""
    return mb.add(x=mb.mul(x=places, y=2), y=1)


Steps = tuple[Size, Size, Size, Size]
"""The old and the new size of an axis, and the step from one entry to the next as numerator and denominator."""


def _axes(
    mb: Builder, x: Var, output_size: Sizes, scale_factors: Constant, scales_w: float | None
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
            new = whole(mb, size)
            found.append((axis, (old, new, old, new)))
        else:
            fraction = fraction_of(factor)
            a, b = fraction.numerator, fraction.denominator
            new = mb.floor_div(x=mb.mul(x=old, y=a), y=b) if size is None or is_open([size]) else size
            found.append((axis, (old, new, b, a)))
    return found


def fraction_of(factor: float) -> Fraction:
    """The scale as a fraction. Raises NotImplementedError where that would give another size than torch's product."""
    fraction = Fraction(factor).limit_denominator(1024)
    a, b = fraction.numerator, fraction.denominator
    if any(math.floor(length * factor) != length * a // b for length in range(1, _LONGEST)):
        raise NotImplementedError(
            f"resizing flexible sizes by {factor:g} is not converted: it is not a simple fraction"
        )
    return fraction


def _exact_places(mb: Builder, steps: Steps, *, align_corners: bool) -> tuple[Var, Var, Var]:
    """The place of each new entry among the old, as numerators and denominator, and the last old place.

    `p (old - 1) / (new - 1)` with `align_corners`, else `((2 p + 1) numerator - denominator) / (2 denominator)`, which
    may be below 0.
    """
    old, new, numerator, denominator = steps
    places, last = places_of(mb, new), mb.sub(x=old, y=1)
    if align_corners:
        return mb.mul(x=places, y=last), mb.maximum(x=mb.sub(x=new, y=1), y=1), last
    above = mb.sub(x=mb.mul(x=odd(mb, places), y=numerator), y=denominator)
    return above, mb.mul(x=denominator, y=2), last


def _rest(mb: Builder, above: Var, whole_part: Var, below: Var) -> Var:
    """What is left of `above / below` behind its whole part, in float32."""
    rest = mb.sub(x=above, y=mb.mul(x=whole_part, y=below))
    return mb.real_div(x=mb.cast(x=rest, dtype="fp32"), y=mb.cast(x=below, dtype="fp32"))


def interpolated(mb: Builder, x: Var, axis: int, above: Var, below: Var, last: Var) -> Var:
    """Linear between the entries around `above / below`, of which none is beyond the first and the last."""
    above = mb.maximum(x=above, y=0)
    first = mb.minimum(x=mb.floor_div(x=above, y=below), y=last)
    second = mb.minimum(x=mb.add(x=first, y=1), y=last)
    weight = _rest(mb, above, first, below)
    weight = mb.expand_dims(x=weight, axes=list(range(1, x.rank - axis))) if axis < x.rank - 1 else weight
    if not is_float(x):
        x = mb.cast(x=x, dtype="fp32")
    start, end = (mb.gather(x=x, indices=places, axis=axis) for places in (first, second))
    change, weight = promoted(mb.sub(x=end, y=start), weight)
    return mb.add(x=start, y=mb.mul(x=change, y=weight))


def _is_open_resize(
    x: Var,
    output_size: Sizes,
    align_corners: bool = False,
    scale_factors: Constant = None,
    scales_w: float | None = None,
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


def _is_open_nearest(x: Var, output_size: Sizes, scale_factors: Constant = None, scales_w: float | None = None) -> bool:
    return _is_open_resize(x, output_size, False, scale_factors, scales_w)


_LACKS = "sizes of other tensors, and factors that give no whole size"
FLEXIBLE_RESIZING = (
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
