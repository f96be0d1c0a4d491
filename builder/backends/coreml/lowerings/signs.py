"""Signs, of zeros too, and what is infinite: the angle of a point, and numbers with another's sign."""

from __future__ import annotations

import math

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.variables import as_float, dtype_name, is_float, promoted, selected, zeros_like


def isinf(mb: Builder, x: Var) -> Var:
    """Whether an element is infinite: of all but zero that alone is its own half, in either precision."""
    if not is_float(x):
        return mb.not_equal(x=x, y=x)
    return mb.logical_and(x=mb.equal(x=mb.mul(x=x, y=0.5), y=x), y=mb.not_equal(x=x, y=0.0))


def isfinite(mb: Builder, x: Var) -> Var:
    """Whether an element is neither infinite nor NaN: less itself it is 0."""
    return mb.equal(x=mb.sub(x=x, y=x), y=0.0) if is_float(x) else mb.equal(x=x, y=x)


def is_negative(mb: Builder, x: Var) -> Var:
    """Whether the sign of floats is set, of zeros too: 1 / -0 is below 0."""
    return mb.logical_or(x=mb.less(x=x, y=0.0), y=mb.less(x=mb.real_div(x=1.0, y=x), y=0.0))


def signbit(mb: Builder, x: Var) -> Var:
    """Whether a number is negative, or a zero with a minus."""
    return is_negative(mb, x) if is_float(x) else mb.less(x=x, y=0)


def copysign(mb: Builder, x: Var, other: Var) -> Var:
    """The size of x with the sign of other, of zeros too."""
    x, other = promoted(as_float(x), as_float(other))
    size = mb.abs(x=x)
    return selected(mb, is_negative(mb, other), mb.mul(x=size, y=-1.0), size)


def heaviside(mb: Builder, x: Var, values: Var) -> Var:
    """0 below zero, 1 above, `values` at zero; 0 of NaN."""
    x, values = promoted(x, values)
    zero = zeros_like(mb, x)
    above = mb.cast(x=mb.greater(x=x, y=zero), dtype=dtype_name(x))
    return selected(mb, mb.equal(x=x, y=zero), values, above)


def atan2(mb: Builder, y: Var, x: Var) -> Var:
    """The angle of the point (x, y) in [-π, π], by the table of IEEE 754: a zero has a sign, and so has infinity."""
    y, x = promoted(as_float(y), as_float(x))
    below, left = is_negative(mb, y), is_negative(mb, x)
    on_axis = mb.equal(x=x, y=0.0)
    ratio = mb.real_div(x=y, y=selected(mb, on_axis, 1.0, x))
    opposite = mb.logical_xor(x=below, y=left)
    ratio = selected(mb, mb.logical_and(x=isinf(mb, x), y=isinf(mb, y)), selected(mb, opposite, -1.0, 1.0), ratio)
    angle = mb.atan(x=ratio)
    whole = selected(mb, left, mb.add(x=angle, y=selected(mb, below, -math.pi, math.pi)), angle)
    upright = selected(mb, mb.less(x=y, y=0.0), -math.pi / 2, selected(mb, mb.greater(x=y, y=0.0), math.pi / 2, whole))
    return selected(mb, on_axis, upright, whole)


SIGNS = (
    *(
        Lowering(operator=name, lower=lower)
        for name, lower in (
            ("copysign", copysign),
            ("heaviside", heaviside),
            ("isfinite", isfinite),
            ("isinf", isinf),
            ("signbit", signbit),
        )
    ),
    Lowering(
        operator="atan2",
        lower=atan2,
        wrong=UpstreamBug(issue=None, summary="gives 0 for the angle of points on the negative axis, which is π"),
    ),
)
