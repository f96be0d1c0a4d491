"""Operators that work on each element: those that coremltools lacks, and those that it converts wrongly."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from builder.backends.coreml.lowerings.logarithms import log_of_sum
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, UpstreamBug, Var
from builder.backends.coreml.lowerings.signs import isinf
from builder.backends.coreml.lowerings.variables import (
    as_float,
    dtype_name,
    is_bool,
    is_constant,
    is_float,
    is_integer,
    promoted,
    selected,
    zeros_like,
)


def addcmul(mb: Builder, x: Var, tensor1: Var, tensor2: Var, value: float = 1) -> Var:
    """`x + value * tensor1 * tensor2`."""
    x, tensor1, tensor2 = promoted(x, tensor1, tensor2)
    return mb.add(x=x, y=_times(mb, mb.mul(x=tensor1, y=tensor2), value))


def addcdiv(mb: Builder, x: Var, tensor1: Var, tensor2: Var, value: float = 1) -> Var:
    """`x + value * tensor1 / tensor2`."""
    x, tensor1, tensor2 = promoted(x, tensor1, tensor2)
    return mb.add(x=x, y=_times(mb, mb.real_div(x=tensor1, y=tensor2), value))


def _times(mb: Builder, x: Var, factor: float) -> Var:
    if factor == 1:
        return x
    x, y = promoted(x, mb.const(val=factor))
    return mb.mul(x=x, y=y)


def reciprocal(mb: Builder, x: Var) -> Var:
    """`1 / x`."""
    one, x = promoted(1.0, as_float(x))
    return mb.real_div(x=one, y=x)


def scaled_sum(mb: Builder, x: Var, other: Var, alpha: float = 1) -> Var:
    """`x + alpha * other`."""
    x, other = promoted(x, _times(mb, other, alpha))
    return mb.add(x=x, y=other)


def scaled_difference(mb: Builder, x: Var, other: Var, alpha: float = 1) -> Var:
    """`x - alpha * other`."""
    x, other = promoted(x, _times(mb, other, alpha))
    return mb.sub(x=x, y=other)


def reversed_difference(mb: Builder, x: Var, other: Var, alpha: float = 1) -> Var:
    """`other - alpha * x`."""
    return scaled_difference(mb, other, x, alpha)


def _is_scaled(alpha: float = 1) -> bool:
    return alpha is not None and alpha != 1


def fmod(mb: Builder, x: Var, other: Var) -> Var:
    """The remainder with the sign of x: `sign(x) * (|x| mod |other|)`."""
    x, other = promoted(x, other)
    return mb.mul(x=mb.sign(x=x), y=mb.mod(x=mb.abs(x=x), y=mb.abs(x=other)))


def remainder(mb: Builder, x: Var, other: Var) -> Var:
    """The remainder with the sign of `other`; of truths as integers."""
    x, other = promoted(*(mb.cast(x=value, dtype="int32") if is_bool(value) else value for value in (x, other)))
    return mb.mod(x=x, y=other)


def quotient(mb: Builder, x: Var, other: Var) -> Var:
    """`x / other` of integers, which is a float."""
    return mb.real_div(x=as_float(x), y=as_float(other))


def integer_division(mb: Builder, x: Var, other: Var, rounding_mode: str | None = None) -> Var:
    """`div(x, other, rounding_mode)` of integers, which stays an integer."""
    x, other = promoted(x, other)
    if rounding_mode == "floor":
        return mb.floor_div(x=x, y=other)
    sign = mb.mul(x=mb.sign(x=x), y=mb.sign(x=other))
    return mb.mul(x=sign, y=mb.floor_div(x=mb.abs(x=x), y=mb.abs(x=other)))


def _divides_integers(x: Var, other: Var, rounding_mode: str | None = None) -> bool:
    return rounding_mode is not None and is_integer(x) and is_integer(other)


def integer_floor_division(mb: Builder, x: Var, other: Var) -> Var:
    """`floor_divide(x, other)` of integers, which stays an integer."""
    return integer_division(mb, x, other, "floor")


def _are_integers(x: Var, other: Var) -> bool:
    return is_integer(x) and is_integer(other)


def power_of_two(mb: Builder, x: Var, exponent: Var) -> Var:  # noqa: ARG001 - x is 2
    """`2 ** exponent` as `exp2`: Core ML's own pow squares the exponent instead."""
    return mb.exp2(x=as_float(exponent))


def _is_power_of_two(x: Var, exponent: Var) -> bool:
    return is_constant(x) and x.val.size == 1 and float(x.val) == 2.0 and not is_constant(exponent)


def power(mb: Builder, x: Var, exponent: Var) -> Var:
    """A power of two, or a root: Core ML's pow is infinite where the root of -inf is NaN."""
    if _is_power_of_two(x, exponent):
        return power_of_two(mb, x, exponent)
    return mb.sqrt(x=x) if float(exponent.val) > 0 else mb.rsqrt(x=x, epsilon=0.0)


def _is_special_power(x: Var, exponent: Var) -> bool:
    root = is_float(x) and is_constant(exponent) and exponent.val.size == 1 and abs(float(exponent.val)) == 0.5
    return root or _is_power_of_two(x, exponent)


def zero(mb: Builder, x: Var) -> Var:
    """Zeros like x."""
    return zeros_like(mb, x)


def alias(mb: Builder, x: Var) -> Var:
    """A view of the whole tensor."""
    return mb.identity(x=x)


def lerp(mb: Builder, x: Var, end: Var, weight: Var) -> Var:
    """`x + weight * (end - x)` by halves of x and end: their distance may leave half precision."""
    x, end, weight = promoted(x, end, weight)
    x, end = mb.mul(x=x, y=0.5), mb.mul(x=end, y=0.5)
    return mb.mul(x=mb.add(x=x, y=mb.mul(x=weight, y=mb.sub(x=end, y=x))), y=2.0)


def logaddexp(mb: Builder, x: Var, other: Var) -> Var:
    """`log(e^x + e^other)`, from the larger one, so that nothing overflows."""
    return log_of_sum(mb, *promoted(as_float(x), as_float(other)))


def log_sigmoid(mb: Builder, x: Var) -> Var:
    """`min(x, 0) - log(1 + e^-|x|)`, the logarithm by `softplus`, which does not round 1 + e^-|x| on the way."""
    return mb.sub(x=mb.minimum(x=x, y=0.0), y=mb.softplus(x=mb.mul(x=mb.abs(x=x), y=-1.0)))


def log_sigmoid_forward(mb: Builder, x: Var) -> tuple[Var, ...]:
    """What exported programs call it; the buffer beside the result serves training alone."""
    return (log_sigmoid(mb, x),)


def logit(mb: Builder, x: Var, eps: float | None = None) -> Var:
    """`log(x / (1 - x))`, with x kept between eps and 1 - eps."""
    if eps is not None:
        x = mb.clip(x=x, alpha=float(eps), beta=1.0 - float(eps))
    return mb.log(x=mb.real_div(x=x, y=mb.sub(x=1.0, y=x)), epsilon=0.0)


def hypot(mb: Builder, x: Var, other: Var) -> Var:
    """`sqrt(x^2 + other^2)`, from the larger magnitude, whose square half precision may not hold; inf and NaN: inf."""
    x, other = (mb.abs(x=value) for value in promoted(as_float(x), as_float(other)))
    infinite = mb.logical_or(x=isinf(mb, x), y=isinf(mb, other))
    largest = mb.maximum(x=mb.maximum(x=x, y=other), y=promoted(x, 2.0**-14)[1])
    x, other = (mb.real_div(x=value, y=largest) for value in (x, other))
    found = mb.mul(x=largest, y=mb.sqrt(x=mb.add(x=mb.mul(x=x, y=x), y=mb.mul(x=other, y=other))))
    return selected(mb, infinite, math.inf, found)


def trunc(mb: Builder, x: Var) -> Var:
    """Towards zero."""
    return mb.mul(x=mb.sign(x=x), y=mb.floor(x=mb.abs(x=x))) if is_float(x) else mb.identity(x=x)


def celu(mb: Builder, x: Var, alpha: float = 1.0) -> Var:
    """`max(0, x) + min(0, alpha * (e^(x / alpha) - 1))`."""
    below = mb.mul(x=expm1(mb, mb.mul(x=mb.minimum(x=x, y=0.0), y=1.0 / alpha)), y=float(alpha))
    return mb.add(x=mb.maximum(x=x, y=0.0), y=below)


def hardshrink(mb: Builder, x: Var, lambd: float = 0.5) -> Var:
    """X where it is further from zero than lambd, else 0."""
    return mb.mul(x=x, y=mb.cast(x=mb.greater(x=mb.abs(x=x), y=float(lambd)), dtype=dtype_name(x)))


def softshrink(mb: Builder, x: Var, lambd: float = 0.5) -> Var:
    """X moved towards zero by lambd, and no further."""
    return mb.sub(x=x, y=mb.clip(x=x, alpha=-float(lambd), beta=float(lambd)))


def xlogy(mb: Builder, x: Var, other: Var) -> Var:
    """`x * log(other)`, and 0 where x is 0."""
    x, other = promoted(as_float(x), as_float(other))
    is_zero = mb.equal(x=x, y=0.0)
    safe = selected(mb, mb.logical_and(x=is_zero, y=mb.less_equal(x=other, y=other)), 1.0, other)
    return mb.mul(x=x, y=mb.log(x=safe, epsilon=0.0))


def gelu(mb: Builder, x: Var, approximate: str = "none") -> Var:
    """`x` times the normal distribution's share below it, or its approximation by tanh."""
    return mb.gelu(x=x, mode="TANH_APPROXIMATION" if approximate == "tanh" else "EXACT")


def rsqrt(mb: Builder, x: Var) -> Var:
    """`1 / sqrt(x)`, infinite at zero: MIL adds 1e-12 otherwise."""
    return mb.rsqrt(x=as_float(x), epsilon=0.0)


def _may_be_tiny(x: Var) -> bool:
    """Whether x may come near 1e-12; not where the model adds a larger epsilon itself, as its norms do."""
    if x.op is None or x.op.op_type != "add":
        return True
    added = [value.val for value in (x.op.x, x.op.y) if is_constant(value) and value.val.size == 1]
    return not any(float(value) >= 1e-9 for value in added)


def softplus(mb: Builder, x: Var, beta: float = 1, threshold: float = 20) -> Var:
    """`log(1 + e^(beta x)) / beta` as `max(x, 0) + log(1 + e^-|beta x|) / beta`; x itself beyond the threshold."""
    x = as_float(x)
    product = mb.mul(x=x, y=float(beta))
    rest = mb.mul(x=mb.softplus(x=mb.mul(x=mb.abs(x=product), y=-1.0)), y=1 / float(beta))
    smooth = mb.add(x=mb.maximum(x=x, y=0.0), y=rest)
    return selected(mb, mb.greater(x=product, y=float(threshold)), x, smooth)


def _is_unusual_softplus(x: Var, beta: float = 1, threshold: float = 20) -> bool:
    return not is_float(x) or (beta, threshold) != (1, 20)


def expm1(mb: Builder, x: Var) -> Var:
    """`e^x - 1` as `tanh(x / 2) (e^x + 1)`, which takes nothing from a number that is almost the same."""
    x = as_float(x)
    return mb.mul(x=mb.tanh(x=mb.mul(x=x, y=0.5)), y=mb.add(x=mb.exp(x=x), y=1.0))


def erfc(mb: Builder, x: Var) -> Var:
    """`1 - erf(x)`."""
    return mb.sub(x=1.0, y=mb.erf(x=as_float(x)))


def scaled(factor: float, mb: Builder, x: Var) -> Var:
    """X times a number."""
    return mb.mul(x=as_float(x), y=factor)


def number(mb: Builder, x: Var) -> Var:
    """The one element of x as a number of Python, which `script` keeps: `float(x.sum())`."""
    x = as_float(x)
    return mb.squeeze(x=x) if x.rank else x


def _of_integers(operator: str, mb: Builder, x: Var) -> Var:
    """The operator on integers as float32, as torch promotes them."""
    return getattr(mb, operator)(x=mb.cast(x=x, dtype="fp32"))


def _is_integer(x: Var) -> bool:
    return is_integer(x)


_FLOAT_ONLY = ("sqrt", "exp", "exp2", "sin", "cos", "tan", "tanh", "sigmoid", "erf", "atan", "asin", "acos")

_SCALED = {"add": scaled_sum, "sub": scaled_difference, "rsub": reversed_difference}

_ALPHA = UpstreamBug(issue=2680, summary="ignores or refuses `alpha`", fixed_in="9.1.dev0")

_INTEGER_QUOTIENT = UpstreamBug(issue=2734, summary="makes floats of quotients of integers", fixed_in="9.1.dev0")


def _plain(**functions: Callable[..., Var | tuple[Var, ...]]) -> tuple[Lowering, ...]:
    return tuple(Lowering(operator=name, lower=function) for name, function in functions.items())


ELEMENTWISE = (
    *_plain(
        addcmul=addcmul, addcdiv=addcdiv, fmod=fmod, zero=zero, alias=alias, lerp=lerp, logaddexp=logaddexp,
        log_sigmoid=log_sigmoid, log_sigmoid_forward=log_sigmoid_forward, logit=logit, hypot=hypot, trunc=trunc,
        fix=trunc, celu=celu, hardshrink=hardshrink, softshrink=softshrink,
        xlogy=xlogy, special_xlogy=xlogy, erfc=erfc, special_erfc=erfc,
        deg2rad=partial(scaled, math.pi / 180), rad2deg=partial(scaled, 180 / math.pi), float=number,
    ),
    *(Lowering(operator=name, lower=lower, wrong=_ALPHA, applies=_is_scaled) for name, lower in _SCALED.items()),
    Lowering(
        operator="reciprocal",
        lower=reciprocal,
        wrong=UpstreamBug(issue=2773, summary="computes `1 / (x + 0.0001)`", fixed_in="9.1.dev0"),
    ),
    Lowering(
        operator="rsqrt",
        lower=rsqrt,
        wrong=UpstreamBug(issue=None, summary="adds an epsilon, so that nothing is infinite"),
        applies=_may_be_tiny,
    ),
    Lowering(
        operator="softplus",
        lower=softplus,
        wrong=UpstreamBug(issue=None, summary="overlooks the threshold"),
        applies=_is_unusual_softplus,
    ),
    Lowering(
        operator="expm1",
        lower=expm1,
        wrong=UpstreamBug(issue=None, summary="takes 1 from a rounded exponential, which leaves few digits near zero"),
    ),
    Lowering(
        operator="gelu",
        lower=gelu,
        wrong=UpstreamBug(issue=None, summary="overlooks `approximate` in exported programs"),
        applies=lambda approximate="none": approximate == "tanh",
    ),
    Lowering(operator="remainder.scalar_tensor", lower=remainder),
    Lowering(
        operator="remainder",
        lower=remainder,
        wrong=UpstreamBug(issue=None, summary="subtracts the divisor times a quotient that float16 does not hold"),
    ),
    Lowering(
        operator="true_divide",
        lower=quotient,
        wrong=UpstreamBug(issue=None, summary="leaves quotients of integers integers"),
        applies=_are_integers,
    ),
    Lowering(operator="div", lower=integer_division, wrong=_INTEGER_QUOTIENT, applies=_divides_integers),
    *(
        Lowering(operator=name, lower=integer_floor_division, wrong=_INTEGER_QUOTIENT, applies=_are_integers)
        for name in ("floor_divide", "floordiv")  # the latter of sizes, in scripts and exported programs
    ),
    Lowering(
        operator="pow",
        lower=power,
        wrong=UpstreamBug(
            issue=2742, summary="leaves `2 ** x` to Core ML, which has `x ** 2`, and roots, which it has of -inf"
        ),
        applies=_is_special_power,
    ),
    *(
        Lowering(operator=name, lower=partial(_of_integers, name), upstream_gap="integers", applies=_is_integer)
        for name in _FLOAT_ONLY
    ),
)  # fmt: skip
