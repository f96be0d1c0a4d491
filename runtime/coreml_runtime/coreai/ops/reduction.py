"""Reductions and scans. Reduced axes stay, with size 1."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops import activation
from coreml_runtime.ops import reduction as mil
from coreml_runtime.ops.table import Ints, Kernel, exact, table


@exact
def all_(*, x: Tensor, axes: Ints) -> Tensor:
    """Whether all elements are true."""
    return torch.amin(x, dim=axes, keepdim=True) if axes else x


@exact
def any_(*, x: Tensor, axes: Ints) -> Tensor:
    """Whether one element is true."""
    return torch.amax(x, dim=axes, keepdim=True) if axes else x


@exact
def reduce_max(*, x: Tensor, axes: Ints) -> Tensor:
    """Largest value."""
    return mil.reduce_max(x=x, axes=axes, keep_dims=True) if axes else x


@exact
def reduce_min(*, x: Tensor, axes: Ints) -> Tensor:
    """Smallest value."""
    return mil.reduce_min(x=x, axes=axes, keep_dims=True) if axes else x


def reduce_mean(*, x: Tensor, axes: Ints) -> Tensor:
    """Mean."""
    return mil.reduce_mean(x=x, axes=axes, keep_dims=True) if axes else x


def reduce_sum(*, x: Tensor, axes: Ints) -> Tensor:
    """Sum."""
    return mil.reduce_sum(x=x, axes=axes, keep_dims=True) if axes else x


def reduce_product(*, x: Tensor, axes: Ints) -> Tensor:
    """Product."""
    return mil.reduce_prod(x=x, axes=axes, keep_dims=True) if axes else x


def argmax(*, x: Tensor, axis: int) -> Tensor:
    """Index of the largest value, the first of equals."""
    return mil.reduce_argmax(x=x, axis=axis, keep_dims=True)


def scan(*, x: Tensor, axis: int, reverse: bool, combiner: str) -> Tensor:
    """What the elements up to each along the axis give; from the end if `reverse`."""
    values = x.flip(axis) if reverse else x
    if combiner == "sum":
        result = torch.cumsum(values, axis, dtype=None if x.is_floating_point() or x.is_complex() else x.dtype)
    elif combiner == "product":
        result = torch.cumprod(values, axis, dtype=None if x.is_floating_point() or x.is_complex() else x.dtype)
    else:
        result = (torch.cummin if combiner == "min" else torch.cummax)(values, axis).values
    return result.flip(axis) if reverse else result


OPS: dict[str, Kernel] = table(
    all_, any_, reduce_max, reduce_min, reduce_mean, reduce_sum, reduce_product, argmax, scan,
    activation.softmax,
)  # fmt: skip
