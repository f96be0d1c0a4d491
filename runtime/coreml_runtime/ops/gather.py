"""Operators that read elements by index."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from coreml_runtime.ops.context import is_real
from coreml_runtime.ops.table import Kernel, exact, table


def _resolve(indices: Tensor, size: int, *, validate: bool) -> Tensor:
    """Indices from 0: negative ones count from the end. With `validate` one outside the axis is an IndexError."""
    wrapped = indices.to(torch.int64)
    if validate and is_real(wrapped) and bool(((wrapped < 0) | (wrapped >= size)).any()):
        raise IndexError(
            f"Unable to compute the prediction using ML Program: an index is outside the axis of {size} elements"
        )
    return torch.where(wrapped < 0, wrapped + size, wrapped)


@exact
def gather(*, x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Slices of x along an axis: x.shape[:axis] + indices.shape[batch_dims:] + x.shape[axis + 1:]."""
    axis = axis % max(x.dim(), 1)
    batch_dims = batch_dims % max(indices.dim(), 1) if batch_dims < 0 else batch_dims
    found = _resolve(indices, x.shape[axis], validate=validate_indices)
    shape = (*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :])
    if batch_dims == 0:
        return x.index_select(axis, found.reshape(-1)).reshape(shape)
    batch = math.prod(x.shape[:batch_dims])
    rows = x.reshape(batch, *x.shape[batch_dims:]).movedim(axis - batch_dims + 1, 1)
    taken = rows[torch.arange(batch)[:, None], found.reshape(batch, -1)]
    return taken.movedim(1, axis - batch_dims + 1).reshape(shape)


@exact
def gather_along_axis(*, x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False) -> Tensor:
    """numpy.take_along_axis."""
    return torch.take_along_dim(x, _resolve(indices, x.shape[axis], validate=validate_indices), axis)


@exact
def gather_nd(*, x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False) -> Tensor:
    """Slices of x at index tuples: indices.shape[:-1] + x.shape[batch_dims + indices.shape[-1]:]."""
    depth = indices.shape[-1]
    batch = math.prod(x.shape[:batch_dims])
    rows = x.reshape(batch, *x.shape[batch_dims:])
    tuples = indices.reshape(batch, -1, depth)
    places = [_resolve(tuples[..., i], x.shape[batch_dims + i], validate=validate_indices) for i in range(depth)]
    taken = rows[(torch.arange(batch)[:, None], *places)]
    return taken.reshape(*indices.shape[:-1], *x.shape[batch_dims + depth :])


OPS: dict[str, Kernel] = table(gather, gather_along_axis, gather_nd)
