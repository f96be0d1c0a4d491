"""Elementwise operators of one tensor, `cast` among them."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Kernel, exact, fresh, table

_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1)}
_INT32 = (-(2**31), 2**31 - 1)


def abs_(*, x: Tensor) -> Tensor:
    """|x|."""
    return torch.abs(x)


def acos(*, x: Tensor) -> Tensor:
    """Inverse cosine."""
    return torch.acos(x)


def asin(*, x: Tensor) -> Tensor:
    """Inverse sine."""
    return torch.asin(x)


def atan(*, x: Tensor) -> Tensor:
    """Inverse tangent."""
    return torch.atan(x)


def atanh(*, x: Tensor) -> Tensor:
    """Inverse hyperbolic tangent."""
    return torch.atanh(x)


def ceil(*, x: Tensor) -> Tensor:
    """The smallest integer not below x."""
    return torch.ceil(x)


@exact
@fresh
def clip(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    """x limited to [alpha, beta]."""
    return torch.clamp(x, alpha, beta)


def cos(*, x: Tensor) -> Tensor:
    """Cosine."""
    return torch.cos(x)


def cosh(*, x: Tensor) -> Tensor:
    """Hyperbolic cosine."""
    return torch.cosh(x)


@fresh
def erf(*, x: Tensor) -> Tensor:
    """Gauss error function."""
    return torch.erf(x)


@fresh
def exp(*, x: Tensor) -> Tensor:
    """e to the power x."""
    return torch.exp(x)


def exp2(*, x: Tensor) -> Tensor:
    """2 to the power x."""
    return torch.exp2(x)


def floor(*, x: Tensor) -> Tensor:
    """The largest integer not above x."""
    return torch.floor(x)


def inverse(*, x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon)."""
    return torch.reciprocal(x + epsilon)


def log(*, x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """Natural logarithm of x + epsilon."""
    return torch.log(x + epsilon)


def logical_not(*, x: Tensor) -> Tensor:
    """x is zero."""
    return torch.logical_not(x)


def round_(*, x: Tensor) -> Tensor:
    """The nearest integer; halves go to the even one."""
    return torch.round(x)


@fresh
def rsqrt(*, x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


def sign(*, x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return torch.sign(x)


def sin(*, x: Tensor) -> Tensor:
    """Sine."""
    return torch.sin(x)


def sinh(*, x: Tensor) -> Tensor:
    """Hyperbolic sine."""
    return torch.sinh(x)


@fresh
def sqrt(*, x: Tensor) -> Tensor:
    """Square root."""
    return torch.sqrt(x)


@fresh
def square(*, x: Tensor) -> Tensor:
    """x * x."""
    return torch.square(x)


def tan(*, x: Tensor) -> Tensor:
    """Tangent."""
    return torch.tan(x)


@fresh
def tanh(*, x: Tensor) -> Tensor:
    """Hyperbolic tangent."""
    return torch.tanh(x)


@exact
def threshold(*, x: Tensor, alpha: float) -> Tensor:
    """The larger of x and alpha."""
    return torch.clamp(x, min=alpha)


def cast(*, x: Tensor, dtype: str, context: Context) -> Tensor:
    """x in another type. Floats are cut towards zero and limited to the range of an integer type; integers wrap.

    What happens outside the target's range is settled by none of Apple's tests; this is deterministic.
    """
    target = context.held(dtype)
    if target.is_floating_point or target is torch.bool:
        return x.to(target)
    low, high = _RANGES.get(dtype, _INT32)
    if x.is_floating_point():
        return torch.nan_to_num(x.to(torch.float64), nan=0.0).clamp(low, high).to(target)
    if dtype == "uint16":
        return x.to(target) & 0xFFFF
    return x.to(target)


OPS: dict[str, Kernel] = table(
    abs_, acos, asin, atan, atanh, ceil, clip, cos, cosh, erf, exp, exp2, floor, inverse, log, logical_not, round_,
    rsqrt, sign, sin, sinh, sqrt, square, tan, tanh, threshold, cast,
)  # fmt: skip
