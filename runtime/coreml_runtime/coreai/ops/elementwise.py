"""Operators that compute each element by itself. The broadcasting twins of the dialect are the same kernels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coreml_runtime.ops import activation
from coreml_runtime.ops import elementwise_binary as binary
from coreml_runtime.ops import elementwise_unary as unary
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Kernel, exact, merge, table


def acosh(*, x: Tensor) -> Tensor:
    """Inverse hyperbolic cosine."""
    return torch.acosh(x)


def asinh(*, x: Tensor) -> Tensor:
    """Inverse hyperbolic sine."""
    return torch.asinh(x)


def log(*, x: Tensor) -> Tensor:
    """Natural logarithm."""
    return torch.log(x)


def rsqrt(*, x: Tensor) -> Tensor:
    """1 / sqrt(x)."""
    return torch.rsqrt(x)


def divide(*, x: Tensor, y: Tensor) -> Tensor:
    """x / y; of integers the quotient is cut towards zero."""
    if x.is_floating_point() or x.is_complex():
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


def floor_divide(*, x: Tensor, y: Tensor) -> Tensor:
    """The largest integer not above x / y; of an infinite x it is NaN, as in Python."""
    return torch.floor_divide(x, y)


def modulo(*, x: Tensor, y: Tensor) -> Tensor:
    """x - trunc(x / y) * y: the remainder has the sign of x."""
    return torch.fmod(x, y)


def pow_(*, x: Tensor, y: Tensor) -> Tensor:
    """x to the power y; integers wrap, and a negative power of one is cut towards zero."""
    if x.is_floating_point() or x.is_complex():
        return torch.pow(x, y)
    positive = torch.pow(x, y.clamp(min=0))
    if not bool((y < 0).any()):
        return positive
    sign = torch.where(y % 2 == 0, torch.ones_like(x), x)
    return torch.where(y < 0, torch.where(x.abs() == 1, sign, torch.zeros_like(x)), positive)


def bitwise_and(*, x: Tensor, y: Tensor) -> Tensor:
    """x & y."""
    return torch.bitwise_and(x, y)


def bitwise_or(*, x: Tensor, y: Tensor) -> Tensor:
    """x | y."""
    return torch.bitwise_or(x, y)


def bitwise_xor(*, x: Tensor, y: Tensor) -> Tensor:
    """x ^ y."""
    return torch.bitwise_xor(x, y)


@exact
def where(*, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where the condition holds, else b."""
    return torch.where(condition, a, b)


def gelu(*, x: Tensor, approximate: str = "none") -> Tensor:
    """Gaussian error linear unit: exact, by tanh, or by a sigmoid. Infinity stays; torch's exact one makes it NaN."""
    result = activation.gelu(x=x, mode=_GELU[approximate])
    infinite = x == math.inf
    return torch.where(infinite, x, result) if bool(infinite.any()) else result


_GELU = {"none": "EXACT", "tanh": "TANH_APPROXIMATION", "sigmoid": "SIGMOID_APPROXIMATION"}


def cast(*, x: Tensor, context: Context) -> Tensor:
    """x in the declared type of the result: floats are cut towards zero, anything but zero is true."""
    declared = context.output_types[0]
    if declared is None:
        raise TypeError("cast: the result is not a tensor")
    if x.is_complex() and not context.held(declared.dtype).is_complex:
        x = x.real
    if x.dtype is torch.bool or context.held(declared.dtype).is_complex:
        return x.to(context.held(declared.dtype))
    return unary.cast(x=x, dtype=declared.dtype, context=context)


def create_complex(*, real: Tensor, imaginary: Tensor) -> Tensor:
    """Real + i imaginary."""
    return torch.complex(real, imaginary)


@exact
def real_part(*, x: Tensor) -> Tensor:
    """The real part of complex numbers."""
    return x.real


@exact
def imaginary_part(*, x: Tensor) -> Tensor:
    """The imaginary part of complex numbers."""
    return x.imag


OPS: dict[str, Kernel] = merge(
    table(
        acosh, asinh, log, rsqrt, divide, floor_divide, modulo, pow_, bitwise_and, bitwise_or, bitwise_xor, where, gelu,
        cast, create_complex, real_part, imaginary_part,
    ),
    table(
        unary.abs_, unary.acos, unary.asin, unary.atan, unary.atanh, unary.cos, unary.cosh, unary.erf, unary.exp,
        unary.round_, unary.sin, unary.sinh, unary.sqrt, unary.tan, unary.tanh, activation.relu, activation.sigmoid,
        activation.silu, binary.add, binary.sub, binary.mul, binary.maximum, binary.minimum, binary.equal,
        binary.not_equal, binary.greater,
    ),
    {
        "and": binary.logical_and, "or": binary.logical_or, "xor": binary.logical_xor, "not": unary.logical_not,
    },
)  # fmt: skip
