"""Reductions and scans. Reduced axes stay, with size 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from builder.runtime.ops import activation
from builder.runtime.ops import reduction as mil
from builder.runtime.ops.table import Ints, Kernel, exact, table


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


def reduce(*, x: Tensor, axes: Ints, init_value: Tensor, combiner: str) -> Tensor:
    """The elements along the axes and an initial value, combined by one operator."""
    reduced, combined = _COMBINERS[combiner]
    return combined(reduced(x=x, axes=axes), init_value)


_COMBINERS: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "add": (reduce_sum, torch.add),
    "mul": (reduce_product, torch.mul),
    "maximum": (reduce_max, torch.maximum),
    "minimum": (reduce_min, torch.minimum),
    "and": (all_, torch.logical_and),
    "or": (any_, torch.logical_or),
}


def reduce_index(*, x: Tensor, axis: int, init_value: Tensor, init_index: Tensor, combiner: str) -> Tensor:
    """Index of the largest ("greater") or smallest ("less") value, the first of equals.

    Where no element beats `init_value`, the result is `init_index`.
    """
    find, beats = (torch.max, torch.gt) if combiner == "greater" else (torch.min, torch.lt)
    best, index = find(x, dim=axis, keepdim=True)
    return torch.where(beats(best, init_value), index, init_index.to(index.dtype))


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
    all_, any_, reduce_max, reduce_min, reduce_mean, reduce_sum, reduce_product, argmax, reduce, reduce_index, scan,
    activation.softmax,
)  # fmt: skip
