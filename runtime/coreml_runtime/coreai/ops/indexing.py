"""Operators that read and write elements by index, and that sort."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops import gather, scatter
from coreml_runtime.ops import tensor_operation as mil
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Kernel, exact, merge, table


@exact
def gather_along_axis(*, x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """x at the indices along an axis, with the shape of the indices."""
    return gather.gather_along_axis(x=x, indices=indices, axis=axis)


@exact
def gather_nd(*, x: Tensor, indices: Tensor) -> Tensor:
    """Slices of x at index tuples: indices.shape[:-1] + x.shape[indices.shape[-1]:]."""
    return gather.gather_nd(x=x, indices=indices)


def scatter_along_axis(
    *, x: Tensor, indices: Tensor, updates: Tensor, axis: int, scatter_mode: str = "update", context: Context
) -> Tensor:
    """x with `updates` put in, or combined, at the indices along an axis."""
    wrapped = torch.where(indices < 0, indices + x.shape[axis], indices)
    return scatter.scatter_along_axis(
        data=x, indices=wrapped, updates=updates, axis=axis, mode=scatter_mode, validate_indices=True, context=context
    )


def scatter_nd(*, x: Tensor, indices: Tensor, updates: Tensor, context: Context) -> Tensor:
    """x with slices replaced by `updates` (*B, *x.shape[K:]) at indices (*B, K)."""
    sizes = torch.tensor(x.shape[: indices.shape[-1]])
    wrapped = torch.where(indices < 0, indices + sizes, indices)
    return scatter.scatter_nd(
        data=x, indices=wrapped, updates=updates, mode="update", validate_indices=True, context=context
    )


def argsort(*, x: Tensor, dim: int, descending: bool, stable: bool) -> Tensor:
    """Indices that sort x along an axis; equal values keep their order."""
    return _sort(x, dim, descending)[1]


@exact
def sort(*, x: Tensor, dim: int, descending: bool, stable: bool) -> Tensor:
    """x sorted along an axis."""
    return _sort(x, dim, descending)[0]


def _sort(x: Tensor, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
    values, indices = torch.sort(x, dim=dim, descending=descending, stable=True)
    return values, indices


OPS: dict[str, Kernel] = merge(
    table(gather_along_axis, gather_nd, scatter_along_axis, scatter_nd, argsort, sort), table(mil.non_zero)
)
