"""Bounds of elementwise operators of one tensor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from coreml_runtime.intervals.context import Outputs, table
from coreml_runtime.intervals.interval import Interval, Measure, everywhere, limited, make, widened

ULP = 2.0**-21
"""The relative error of an elementary function in single precision, with a wide margin."""
LOOSE = 2.0**-18
"""The same of exponentials, which vectorised code gets less right."""
RANGES = {
    "int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1), "bool": (0, 1),
}  # fmt: skip
"""What integer types hold."""


def carried(x: Interval, low: Tensor, high: Tensor, *, nan: bool = False) -> Interval:
    """New bounds for an operator that takes each element for itself, and is continuous and exact on intervals."""
    return replace(make(low, high, x.sizes, nan=x.nan or nan), reached=x.reached, sources=x.sources)


def rising(function: Callable[[Tensor], Tensor], x: Interval, error: float = ULP) -> Interval:
    """The bounds of a function that never falls, and keeps zero where it is."""
    return widened(carried(x, function(x.low), function(x.high)), error)


def negated(x: Interval) -> Interval:
    """-x."""
    return replace(x, low=-x.high, high=-x.low, unit_axis=None, ball=None, token=None, measure=None)


def sided(function: Callable[[Tensor], Tensor], x: Interval, valley: float, least: float) -> Interval:
    """Of a function that falls up to `valley`, where it is `least`, and rises from there."""
    ends = function(x.low), function(x.high)
    crosses = (x.low <= valley) & (x.high >= valley)
    low = torch.where(crosses, torch.full_like(x.low, least), torch.minimum(*ends))
    return widened(carried(x, low, torch.maximum(*ends)), ULP)


def abs_(*, x: Interval) -> Interval:
    """|x|."""
    return sided(torch.abs, x, 0.0, 0.0)


def square(*, x: Interval) -> Interval:
    """x * x."""
    return squared(x, sided(torch.square, x, 0.0, 0.0))


def squared(x: Interval, made: Interval) -> Interval:
    """The square of x, which is known as that."""
    return made if x.token is None else replace(made, measure=Measure(kind="square", of=x.token))


def rooted(x: Interval, made: Interval, kind: Literal["root", "inverse"]) -> Interval:
    """The root of x, known as that of a mean of squares if x is one."""
    is_mean = x.measure is not None and x.measure.kind == "mean"
    return replace(made, measure=Measure(kind=kind, of=x.measure.of)) if is_mean and x.measure else made


def cosh(*, x: Interval) -> Interval:
    """Hyperbolic cosine."""
    return widened(sided(torch.cosh, x, 0.0, 1.0), LOOSE)


def ceil(*, x: Interval) -> Interval:
    """The smallest integer not below x."""
    return rising(torch.ceil, x, 0.0)


def floor(*, x: Interval) -> Interval:
    """The largest integer not above x."""
    return rising(torch.floor, x, 0.0)


def round_(*, x: Interval) -> Interval:
    """The nearest integer."""
    return rising(torch.round, x, 0.0)


def sign(*, x: Interval) -> Interval:
    """-1, 0 or 1."""
    return rising(torch.sign, x, 0.0)


def atan(*, x: Interval) -> Interval:
    """Inverse tangent."""
    return rising(torch.atan, x)


def asin(*, x: Interval) -> Interval:
    """Inverse sine, of what is between -1 and 1."""
    return _inside(torch.asin, x, -1.0, 1.0)


def acos(*, x: Interval) -> Interval:
    """Inverse cosine, of what is between -1 and 1."""
    turned = _inside(lambda value: -torch.acos(value), x, -1.0, 1.0)
    return negated(turned)


def atanh(*, x: Interval) -> Interval:
    """Inverse hyperbolic tangent, of what is between -1 and 1."""
    return _inside(torch.atanh, x, -1.0, 1.0)


def _inside(function: Callable[[Tensor], Tensor], x: Interval, low: float, high: float) -> Interval:
    """A rising function whose domain is [low, high]; beyond it the result is not a number."""
    outside = x.least < low or x.greatest > high
    made = rising(function, limited(x, low, high), LOOSE)
    return replace(widened(made, 0.0, 1e-6), nan=made.nan or outside)


def erf(*, x: Interval) -> Interval:
    """Gauss error function."""
    return limited(rising(torch.erf, x, LOOSE), -1, 1)


def exp(*, x: Interval) -> Interval:
    """e to the power x."""
    return rising(torch.exp, x, LOOSE)


def exp2(*, x: Interval) -> Interval:
    """2 to the power x."""
    return rising(torch.exp2, x, LOOSE)


def sinh(*, x: Interval) -> Interval:
    """Hyperbolic sine."""
    return rising(torch.sinh, x, LOOSE)


def tanh(*, x: Interval) -> Interval:
    """Hyperbolic tangent."""
    return limited(rising(torch.tanh, x, LOOSE), -1, 1)


def sin(*, x: Interval) -> Interval:
    """Sine."""
    inside = x.least >= -math.pi / 2 and x.greatest <= math.pi / 2
    return limited(rising(torch.sin, x, LOOSE), -1, 1) if inside else _periodic(x)


def cos(*, x: Interval) -> Interval:
    """Cosine."""
    if x.least < -math.pi or x.greatest > math.pi:
        return _periodic(x)
    turned = sided(lambda value: -torch.cos(value), x, 0.0, -1.0)
    return limited(widened(negated(turned), LOOSE, 1e-6, keeps_sign=False), -1, 1)


def _periodic(x: Interval) -> Interval:
    made = everywhere(-1, 1, x.sizes, nan=x.nan or math.isinf(x.magnitude))
    return replace(made, reached=x.reached and x.greatest - x.least >= 2 * math.pi)


def tan(*, x: Interval) -> Interval:
    """Tangent, which has poles at odd multiples of a quarter turn."""
    if x.least > -math.pi / 2 + 1e-3 and x.greatest < math.pi / 2 - 1e-3:
        return rising(torch.tan, x, 2.0**-10)
    return everywhere(-math.inf, math.inf, x.sizes, nan=x.nan or math.isinf(x.magnitude))


def sqrt(*, x: Interval) -> Interval:
    """Square root, of what is not negative."""
    made = rising(torch.sqrt, limited(x, 0.0, math.inf))
    return rooted(x, replace(made, nan=made.nan or x.least < 0), "root")


def rsqrt(*, x: Interval, epsilon: float = 1e-12) -> Interval:
    """1 / sqrt(x + epsilon)."""
    moved = shifted(x, epsilon)
    fits = limited(moved, 0.0, math.inf)
    made = negated(rising(lambda value: -torch.rsqrt(value), fits))
    return rooted(x, replace(made, nan=made.nan or moved.least < 0), "inverse")


def log(*, x: Interval, epsilon: float = 1e-45) -> Interval:
    """Natural logarithm of x + epsilon."""
    moved = shifted(x, epsilon)
    made = rising(torch.log, limited(moved, 0.0, math.inf), 0.0)
    made = widened(made, LOOSE, 1e-6, keeps_sign=False)
    return replace(made, nan=made.nan or moved.least < 0)


def inverse(*, x: Interval, epsilon: float = 1e-4) -> Interval:
    """1 / (x + epsilon)."""
    moved = shifted(x, epsilon)
    if moved.least <= 0 <= moved.greatest:
        return everywhere(-math.inf, math.inf, x.sizes, nan=x.nan)
    return negated(rising(lambda value: -1 / value, moved))


def shifted(x: Interval, amount: float) -> Interval:
    """x + amount, in single precision."""
    return widened(carried(x, x.low + amount, x.high + amount), ULP)


def clip(*, x: Interval, alpha: float, beta: float) -> Interval:
    """x limited to [alpha, beta]."""
    return rising(lambda value: value.clamp(alpha, beta), x, 0.0)


def threshold(*, x: Interval, alpha: float) -> Interval:
    """The larger of x and alpha."""
    return rising(lambda value: value.clamp(min=alpha), x, 0.0)


def logical_not(*, x: Interval) -> Interval:
    """x is zero."""
    return everywhere(0, 1, x.sizes)


def cast(*, x: Interval, dtype: str, outputs: Outputs) -> Interval:
    """x in another type. Floats are cut towards zero and limited to an integer type; integers beyond it wrap."""
    if dtype not in RANGES:
        return x
    if dtype == "bool":
        return everywhere(0, 1, x.sizes)
    if not outputs.is_float("x"):
        return wrapped(x, dtype)
    low, high = RANGES[dtype]
    made = rising(lambda value: torch.trunc(value).clamp(low, high), x, 0.0)
    if x.nan:  # which becomes 0
        made = replace(made, low=made.low.clamp(max=0.0), high=made.high.clamp(min=0.0))
    return replace(made, nan=False)


def wrapped(x: Interval, dtype: str) -> Interval:
    """Integers in another type of integers: all that it holds where some are beyond."""
    low, high = RANGES[dtype]
    inside = x.least >= low and x.greatest <= high
    return x if inside else everywhere(low, high, x.sizes)


def identity(*, x: Interval) -> Interval:
    """x."""
    return x


TRANSFERS = table(
    abs_, square, cosh, ceil, floor, round_, sign, atan, asin, acos, atanh, erf, exp, exp2, sinh, tanh, sin, cos, tan,
    sqrt, rsqrt, log, inverse, clip, threshold, logical_not, cast, identity,
)  # fmt: skip
