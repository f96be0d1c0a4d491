"""Reductions over axes."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops.table import Ints, Kernel, exact, fresh, table


def _all_axes(x: Tensor, axes: Ints | None) -> Ints:
    return tuple(range(x.dim())) if axes is None else axes


def reduce_argmax(*, x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Index of the largest value along an axis, the first of equals; the declared output type gives `output_dtype`."""
    return torch.argmax(x, dim=axis, keepdim=keep_dims)


def reduce_argmin(*, x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Index of the smallest value along an axis, the first of equals; the declared output type gives `output_dtype`."""
    return torch.argmin(x, dim=axis, keepdim=keep_dims)


def reduce_l1_norm(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Sum of |x|."""
    return torch.sum(torch.abs(x), dim=_all_axes(x, axes), keepdim=keep_dims)


@fresh
def reduce_l2_norm(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Square root of the sum of squares."""
    return torch.sqrt(torch.sum(torch.square(x), dim=_all_axes(x, axes), keepdim=keep_dims))


def reduce_log_sum(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Logarithm of the sum."""
    return torch.log(torch.sum(x, dim=_all_axes(x, axes), keepdim=keep_dims))


def reduce_log_sum_exp(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Logarithm of the sum of e^x, without overflow."""
    values = x if x.is_floating_point() else x.to(torch.float32)
    return torch.logsumexp(values, dim=_all_axes(x, axes), keepdim=keep_dims)


@exact
@fresh
def reduce_max(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Largest value."""
    return torch.amax(x, dim=_all_axes(x, axes), keepdim=keep_dims)


@fresh
def reduce_mean(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Mean; of integers it is cut towards zero when it becomes an integer again."""
    values = x if x.is_floating_point() else x.to(torch.float64)
    return torch.mean(values, dim=_all_axes(x, axes), keepdim=keep_dims)


@exact
@fresh
def reduce_min(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Smallest value."""
    return torch.amin(x, dim=_all_axes(x, axes), keepdim=keep_dims)


def reduce_prod(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Product."""
    for axis in sorted((axis % x.dim() for axis in _all_axes(x, axes)), reverse=True):
        x = torch.prod(x, dim=axis, keepdim=keep_dims)
    return x


@fresh
def reduce_sum(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Sum."""
    return torch.sum(x, dim=_all_axes(x, axes), keepdim=keep_dims)


@fresh
def reduce_sum_square(*, x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
    """Sum of squares."""
    return torch.sum(torch.square(x), dim=_all_axes(x, axes), keepdim=keep_dims)


OPS: dict[str, Kernel] = table(
    reduce_argmax, reduce_argmin, reduce_l1_norm, reduce_l2_norm, reduce_log_sum, reduce_log_sum_exp, reduce_max,
    reduce_mean, reduce_min, reduce_prod, reduce_sum, reduce_sum_square,
)  # fmt: skip
