"""Bounds of elementwise operators of two tensors, with numpy's broadcasting, and of a choice between two."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from coreml_runtime.intervals.context import Operand, Outputs, table
from coreml_runtime.intervals.interval import (
    Ball,
    Interval,
    Measure,
    as_interval,
    everywhere,
    make,
    widened,
)
from coreml_runtime.intervals.unary import ULP, abs_, rising, rooted, square, squared


def combined(x: Interval, y: Interval, low: Tensor, high: Tensor, outputs: Outputs) -> Interval:
    """New bounds, attained where the operands are free of each other."""
    made = make(low, high, outputs.sizes, nan=x.nan or y.nan)
    sources = joint_sources(x, y, outputs.sizes)
    known = _is_constant(x) or _is_constant(y)
    return replace(made, reached=x.reached and y.reached and (known or sources is not None), sources=sources)


def joint_sources(x: Interval, y: Interval, sizes: tuple[int | None, ...]) -> frozenset[str] | None:
    """What both depend on, if every combination of their elements is possible."""
    if x.sources is None or y.sources is None or x.sources & y.sources:
        return None
    spread = any(each.sources and each.sizes != sizes for each in (x, y))
    return None if spread else x.sources | y.sources


def _is_constant(x: Interval) -> bool:
    return x.sources == frozenset()


def _error(outputs: Outputs) -> float:
    """What one operation rounds, relatively: nothing of integers."""
    return 0.0 if outputs.is_integer else ULP


def _times(x: Tensor, y: Tensor) -> Tensor:
    """A product in which nothing of something without bounds is nothing."""
    return (x * y).nan_to_num(0.0, math.inf, -math.inf)


def _corners(x: Interval, y: Interval, function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    values = [function(a, b) for a in (x.low, x.high) for b in (y.low, y.high)]
    low, high = values[0], values[0]
    for value in values[1:]:
        low, high = torch.minimum(low, value), torch.maximum(high, value)
    return low, high


def _vanishes_times_infinite(x: Interval, y: Interval) -> bool:
    return math.isinf(x.magnitude) and y.least <= 0 <= y.greatest


def add(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """x + y."""
    a, b = as_interval(x), as_interval(y)
    made = widened(combined(a, b, a.low + b.low, a.high + b.high, outputs), _error(outputs))
    nan = (
        made.nan
        or (a.greatest == math.inf and b.least == -math.inf)
        or (a.least == -math.inf and b.greatest == math.inf)
    )
    return replace(made, nan=nan, ball=_moved_ball(a, b, 1.0), measure=_raised_mean(a, b))


def _raised_mean(a: Interval, b: Interval) -> Measure | None:
    """A mean of squares with a constant added that is not negative."""
    for measured, other in ((a, b), (b, a)):
        if (
            measured.measure is not None
            and measured.measure.kind == "mean"
            and _is_constant(other)
            and other.least >= 0
        ):
            return measured.measure
    return None


def sub(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """x - y."""
    a, b = as_interval(x), as_interval(y)
    made = widened(combined(a, b, a.low - b.high, a.high - b.low, outputs), _error(outputs))
    nan = made.nan or (a.greatest == math.inf == b.greatest) or (a.least == -math.inf == b.least)
    return replace(made, nan=nan, ball=_moved_ball(a, b, -1.0))


def mul(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """x * y; the square of one value is not negative."""
    if x is y and isinstance(x, Interval):
        return square(x=x)
    a, b = as_interval(x), as_interval(y)
    if (same := _normalised(a, b, "inverse", outputs) or _normalised(b, a, "inverse", outputs)) is not None:
        return same
    made = widened(combined(a, b, *_corners(a, b, _times), outputs), _error(outputs))
    nan = made.nan or _vanishes_times_infinite(a, b) or _vanishes_times_infinite(b, a)
    return replace(made, nan=nan, ball=_scaled_ball(a, b))


SURE_ROOT = 2.0**11
"""A root of a mean is right in half precision too where it is at least one by this: its squares have not vanished."""
_ROUNDED = 1 + 2.0**-7


def _normalised(x: Interval, y: Interval, kind: str, outputs: Outputs) -> Interval | None:
    """x by the root of the mean of its own squares, along the last axis of n values: none is beyond sqrt(n)."""
    measure, size = y.measure, x.sizes[-1] if x.sizes else None
    if measure is None or measure.kind != kind or measure.of != x.token or size is None or x.nan or y.nan:
        return None
    root = y.least if kind == "root" else 1 / y.greatest if y.greatest else 0.0
    if root * SURE_ROOT < 1 or math.isinf(x.magnitude) or x.sizes != outputs.sizes:
        return None
    most = min(math.sqrt(size) * _ROUNDED, x.magnitude / root * _ROUNDED)
    one, zero = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    ball = Ball(radius=math.sqrt(size) * _ROUNDED, scale=one, offset=zero)
    return replace(everywhere(-most, most, outputs.sizes), ball=ball)


def _along_last(constant: Interval) -> Tensor | None:
    """A constant that is the same but along the last axis, as (n) or (); None for others."""
    if not _is_constant(constant) or any(size != 1 for size in constant.low.shape[:-1]):
        return None
    if not torch.equal(constant.low, constant.high):
        return None  # joined
    return constant.low.reshape(-1) if constant.low.dim() else constant.low


def _moved_ball(a: Interval, b: Interval, sign: float) -> Ball | None:
    if a.ball is not None and (moved := _along_last(b)) is not None:
        return replace(a.ball, offset=a.ball.offset + sign * moved)
    if b.ball is not None and sign > 0 and (moved := _along_last(a)) is not None:
        return replace(b.ball, offset=b.ball.offset + moved)
    return None


def _scaled_ball(a: Interval, b: Interval) -> Ball | None:
    for ball, other in ((a.ball, b), (b.ball, a)):
        if ball is not None and (factor := _along_last(other)) is not None:
            return replace(ball, scale=ball.scale * factor, offset=ball.offset * factor)
    return None


def _quotient(x: Tensor, y: Tensor) -> Tensor:
    return (x / y).nan_to_num(0.0, math.inf, -math.inf)


def real_div(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """x / y; for integers the quotient is cut towards zero."""
    a, b = as_interval(x), as_interval(y)
    if (same := _normalised(a, b, "root", outputs)) is not None:
        return same
    if 0.0 in b:
        return everywhere(-math.inf, math.inf, outputs.sizes, nan=a.nan or b.nan or 0.0 in a or math.isinf(a.magnitude))
    made = combined(a, b, *_corners(a, b, _quotient), outputs)
    nan = made.nan or (math.isinf(a.magnitude) and math.isinf(b.magnitude))
    made = replace(widened(made, ULP), nan=nan)
    return rising(torch.trunc, made, 0.0) if outputs.is_integer else made


def floor_div(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """The largest integer not above x / y."""
    a, b = as_interval(x), as_interval(y)
    if 0.0 in b:
        return everywhere(-math.inf, math.inf, outputs.sizes, nan=True)
    low, high = _corners(a, b, _quotient)
    wide = 0.0 if outputs.is_integer else 1.0  # a quotient that is all but an integer may round to the next one
    made = combined(a, b, torch.floor(low) - wide, torch.floor(high) + wide, outputs)
    return replace(widened(made, _error(outputs)), reached=False, sources=None)


def mod(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """The remainder of `floor_div`: between 0 and y."""
    a, b = as_interval(x), as_interval(y)
    nan = a.nan or b.nan or 0.0 in b or math.isinf(a.magnitude)
    low, high = min(0.0, b.least), max(0.0, b.greatest)
    return everywhere(low, high, outputs.sizes, nan=nan)


def pow_(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """x to the power y: of a positive x, or with one even, odd or other exponent."""
    a, b = as_interval(x), as_interval(y)
    exponent = b.least if b.least == b.greatest else None
    if exponent is not None and exponent >= 0 and exponent == int(exponent) and a.sizes == outputs.sizes:
        even = int(exponent) % 2 == 0
        base = abs_(x=a) if even else a
        made = replace(rising(lambda value: value.pow(exponent), base, 2.0**-16), nan=a.nan)
        return squared(a, made) if exponent == 2 else made
    if a.least > 0 or (a.least >= 0 and b.least >= 0):
        made = combined(a, b, *_corners(a, b, torch.pow), outputs)
        made = rooted(a, made, "inverse") if exponent == -0.5 else rooted(a, made, "root") if exponent == 0.5 else made
        return replace(widened(made, 2.0**-14), nan=made.nan or math.isinf(a.magnitude) or math.isinf(b.magnitude))
    return everywhere(-math.inf, math.inf, outputs.sizes, nan=True)


def maximum(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """The larger of x and y."""
    a, b = as_interval(x), as_interval(y)
    return combined(a, b, torch.maximum(a.low, b.low), torch.maximum(a.high, b.high), outputs)


def minimum(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """The smaller of x and y."""
    a, b = as_interval(x), as_interval(y)
    return combined(a, b, torch.minimum(a.low, b.low), torch.minimum(a.high, b.high), outputs)


def _truth(outputs: Outputs) -> Interval:
    return everywhere(0, 1, outputs.sizes)


def equal(*, x: Operand, y: Operand, outputs: Outputs) -> Interval:
    """False or true, as all comparisons."""
    del x, y
    return _truth(outputs)


def select(*, cond: Operand, a: Operand, b: Operand, outputs: Outputs) -> Interval:
    """a where cond, b elsewhere."""
    one, other = as_interval(a), as_interval(b)
    if isinstance(cond, Tensor) and bool((cond != 0).all()):
        chosen = one
    elif isinstance(cond, Tensor) and not bool((cond != 0).any()):
        chosen = other
    else:
        low, high = torch.minimum(one.low, other.low), torch.maximum(one.high, other.high)
        made = make(low, high, outputs.sizes, nan=one.nan or other.nan)
        is_free = isinstance(cond, Tensor) or as_interval(cond).sources is not None
        return replace(made, reached=one.reached and other.reached and is_free)
    return replace(make(chosen.low, chosen.high, outputs.sizes, nan=chosen.nan), reached=chosen.reached)


TRANSFERS = {
    **table(add, sub, mul, real_div, floor_div, mod, pow_, maximum, minimum, select),
    **dict.fromkeys(("equal", "not_equal", "greater", "greater_equal", "less", "less_equal"), equal),
    **dict.fromkeys(("logical_and", "logical_or", "logical_xor"), equal),
}
