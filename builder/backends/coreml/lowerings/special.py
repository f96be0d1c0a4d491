"""Rounding to decimals, signs, inverse error functions, and sin(x) / x."""

from __future__ import annotations

import math
from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import as_float, is_complex, is_float, selected


def round_decimals(mb: Builder, x: Var, decimals: int = 0) -> Var:
    """X rounded to so many places behind the point, before it where they are negative; integers as they are.

    The whole part is left out before the rest is multiplied, so that nothing leaves half precision.
    """
    if not is_float(x):
        return mb.identity(x=x)
    factor = float(10 ** abs(decimals))
    if decimals == 0:
        return mb.round(x=x)
    if decimals < 0:
        return mb.mul(x=mb.round(x=mb.real_div(x=x, y=factor)), y=factor)
    size = mb.abs(x=x)
    whole = mb.floor(x=size)
    rest = mb.sub(x=size, y=whole)
    rounded = mb.add(x=whole, y=mb.real_div(x=mb.round(x=mb.mul(x=rest, y=factor)), y=factor))
    result = mb.mul(x=mb.sign(x=x), y=rounded)
    infinite = mb.equal(x=whole, y=mb.add(x=whole, y=1.0))  # of what has no places behind the point
    return selected(mb, infinite, x, result)


def _is_more_than_plain(x: Var, decimals: int | None = None) -> bool:
    return decimals is not None or not is_float(x)


def sgn(mb: Builder, x: Var) -> Var:
    """The sign; of a complex number `x / |x|`, and 0 of 0."""
    if not is_complex(x):
        return mb.sign(x=x)
    a, b = mb.complex_real(data=x), mb.complex_imag(data=x)
    largest = mb.maximum(x=mb.abs(x=a), y=mb.abs(x=b))
    safe = mb.maximum(x=largest, y=2.0**-14)
    a, b = mb.real_div(x=a, y=safe), mb.real_div(x=b, y=safe)
    size = mb.sqrt(x=mb.maximum(x=mb.add(x=mb.mul(x=a, y=a), y=mb.mul(x=b, y=b)), y=2.0**-14))
    return mb.complex(real_data=mb.real_div(x=a, y=size), imag_data=mb.real_div(x=b, y=size))


_CENTRAL = (2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503,
            -0.00417768164, 0.246640727, 1.50140941)  # fmt: skip
_TAIL = (-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
         1.00167406, 2.83297682)  # fmt: skip


def erfinv(mb: Builder, x: Var) -> Var:
    """The inverse of the error function, to single precision.

    Giles, Approximating the erfinv function (GPU Computing Gems, 2011): polynomials of `-log(1 - x²)`, and of its root
    towards the ends.
    """
    x = as_float(x)
    return _inverse(mb, x, mb.mul(x=mb.sub(x=1.0, y=x), y=mb.add(x=1.0, y=x)))


def _inverse(mb: Builder, x: Var, inside: Var) -> Var:
    """The inverse of the error function of x, given `1 - x²` as well as it is known."""
    w = mb.sub(x=0.0, y=mb.log(x=inside))
    central = _polynomial(mb, _CENTRAL, mb.sub(x=mb.minimum(x=w, y=5.0), y=2.5))
    tail = _polynomial(mb, _TAIL, mb.sub(x=mb.sqrt(x=mb.maximum(x=mb.minimum(x=w, y=40.0), y=5.0)), y=3.0))
    result = mb.mul(x=selected(mb, mb.less(x=w, y=5.0), central, tail), y=x)
    ends = mb.mul(x=x, y=float("inf"))
    return selected(mb, mb.equal(x=inside, y=0.0), ends, result)


def ndtri(mb: Builder, x: Var) -> Var:
    """Where the normal distribution reaches a share x: `sqrt(2) erfinv(2 x - 1)`.

    `1 - (2 x - 1)²` is `4 x (1 - x)`; taken from 1, small shares are rounded off: in half precision
    those below 2^-12.
    """
    x = as_float(x)
    inside = mb.mul(x=mb.mul(x=x, y=mb.sub(x=1.0, y=x)), y=4.0)
    return mb.mul(x=_inverse(mb, mb.sub(x=mb.mul(x=x, y=2.0), y=1.0), inside), y=math.sqrt(2))


def sinc(mb: Builder, x: Var) -> Var:
    """`sin(pi x) / (pi x)`, and 1 at 0; whole periods are left out, which pi times x loses or is infinite of.

    With the rest r in [-1, 1], `sin(pi r)` is `sin(pi (sign(r) - r))`, which is 0 at the ends, however pi is rounded.
    """
    x = as_float(x)
    rest = mb.sub(x=x, y=mb.mul(x=mb.round(x=mb.mul(x=x, y=0.5)), y=2.0))
    near = mb.sub(x=mb.sign(x=rest), y=rest)
    rest = selected(mb, mb.greater(x=mb.abs(x=rest), y=0.5), near, rest)
    is_zero = mb.equal(x=x, y=0.0)
    share = mb.real_div(x=mb.sin(x=mb.mul(x=rest, y=math.pi)), y=mb.mul(x=selected(mb, is_zero, 1.0, x), y=math.pi))
    return selected(mb, is_zero, 1.0, share)


def _polynomial(mb: Builder, coefficients: Sequence[float], x: Var) -> Var:
    """Horner's scheme, the highest power first."""
    total = mb.add(x=mb.mul(x=x, y=0.0), y=coefficients[0])
    for coefficient in coefficients[1:]:
        total = mb.add(x=mb.mul(x=total, y=x), y=coefficient)
    return total


SPECIAL = (
    *(
        Lowering(
            operator=name,
            lower=round_decimals,
            upstream_gap="places behind the point, and integers",
            applies=_is_more_than_plain,
        )
        for name in ("round", "round.decimals")
    ),
    Lowering(operator="sgn", lower=sgn),
    Lowering(operator="erfinv", lower=erfinv),
    Lowering(operator="special_ndtri", lower=ndtri),
    *(Lowering(operator=name, lower=sinc) for name in ("sinc", "special_sinc")),
)
