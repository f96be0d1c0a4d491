"""Elementwise operators of two tensors, with numpy's broadcasting."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops.table import Kernel, fresh, table


@fresh
def add(*, x: Tensor, y: Tensor) -> Tensor:
    """x + y."""
    return x + y


@fresh
def sub(*, x: Tensor, y: Tensor) -> Tensor:
    """x - y."""
    return x - y


@fresh
def mul(*, x: Tensor, y: Tensor) -> Tensor:
    """x * y."""
    return x * y


@fresh
def real_div(*, x: Tensor, y: Tensor) -> Tensor:
    """x / y; for integers the quotient is cut towards zero when it becomes an integer again."""
    return x / y


def floor_div(*, x: Tensor, y: Tensor) -> Tensor:
    """The largest integer not above x / y."""
    return torch.floor_divide(x, y)


def mod(*, x: Tensor, y: Tensor) -> Tensor:
    """The remainder of `floor_div`: it has the sign of y."""
    return torch.remainder(x, y)


@fresh
def pow_(*, x: Tensor, y: Tensor) -> Tensor:
    """x to the power y; integers go through double, because y may be negative."""
    if not x.is_floating_point():
        return torch.pow(x.to(torch.float64), y)
    return torch.pow(x, y)


@fresh
def maximum(*, x: Tensor, y: Tensor) -> Tensor:
    """The larger of x and y."""
    return torch.maximum(x, y)


@fresh
def minimum(*, x: Tensor, y: Tensor) -> Tensor:
    """The smaller of x and y."""
    return torch.minimum(x, y)


def equal(*, x: Tensor, y: Tensor) -> Tensor:
    """x == y, bool."""
    return x == y


def not_equal(*, x: Tensor, y: Tensor) -> Tensor:
    """x != y, bool."""
    return x != y


def greater(*, x: Tensor, y: Tensor) -> Tensor:
    """x > y, bool."""
    return x > y


def greater_equal(*, x: Tensor, y: Tensor) -> Tensor:
    """x >= y, bool."""
    return x >= y


def less(*, x: Tensor, y: Tensor) -> Tensor:
    """x < y, bool."""
    return x < y


def less_equal(*, x: Tensor, y: Tensor) -> Tensor:
    """x <= y, bool."""
    return x <= y


def logical_and(*, x: Tensor, y: Tensor) -> Tensor:
    """Both are nonzero."""
    return torch.logical_and(x, y)


def logical_or(*, x: Tensor, y: Tensor) -> Tensor:
    """One or both are nonzero."""
    return torch.logical_or(x, y)


def logical_xor(*, x: Tensor, y: Tensor) -> Tensor:
    """Exactly one is nonzero."""
    return torch.logical_xor(x, y)


OPS: dict[str, Kernel] = table(
    add, sub, mul, real_div, floor_div, mod, pow_, maximum, minimum, equal, not_equal, greater, greater_equal, less,
    less_equal, logical_and, logical_or, logical_xor,
)  # fmt: skip
