"""MIL's scatter family: write updates into a copy of a tensor at given indices."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from coreml_runtime.errors import PredictionError
from coreml_runtime.ops.context import Context, is_real
from coreml_runtime.ops.table import table

# What Core ML reports when it refuses an index; coremltools' own tests look for this text.
_REFUSED = "Unable to compute the prediction using ML Program: {}: index {} is out of range [0, {})"


def scatter(
    *,
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    context: Context,
) -> Tensor:
    """Combine slices of `updates` into `data` along `axis`.

    `updates` has the shape data.shape[:axis] + indices.shape + data.shape[axis + 1:].
    """
    axis = axis % data.dim()
    rows = _checked("scatter", indices.flatten(), data.shape[axis], validate_indices, context)
    updates = updates.flatten(axis, axis + indices.dim() - 1) if indices.dim() else updates.unsqueeze(axis)
    shape = [1] * data.dim()
    shape[axis] = rows.numel()
    return _combine(data, axis, rows.view(shape).expand_as(updates), updates, mode)


def scatter_along_axis(
    *,
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    context: Context,
) -> Tensor:
    """Combine single elements of `updates`, which has the shape of `indices`, into `data` along `axis`."""
    axis = axis % data.dim()
    index = _checked("scatter_along_axis", indices, data.shape[axis], validate_indices, context)
    return _combine(data, axis, index, updates, mode)


def scatter_nd(
    *,
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: bool = False,
    context: Context,
) -> Tensor:
    """Combine slices: indices (*B, K) name the first K coordinates of `data`; updates are (*B, *data.shape[K:])."""
    depth = indices.shape[-1]
    sizes, rest = data.shape[:depth], data.shape[depth:]
    rows = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    outside = torch.zeros(indices.shape[:-1], dtype=torch.bool)
    for coordinate, size in enumerate(sizes):
        index = _checked("scatter_nd", indices[..., coordinate], size, validate_indices, context)
        outside |= index == size
        rows = rows * size + index
    count = math.prod(sizes)
    rows = rows.masked_fill(outside, count).flatten()
    flat = updates.reshape(rows.numel(), math.prod(rest))  # of no rows, -1 could be anything
    result = _combine(data.reshape(count, math.prod(rest)), 0, rows.unsqueeze(1).expand_as(flat), flat, mode)
    return result.reshape(sizes + rest)


def _checked(name: str, indices: Tensor, size: int, validate: bool, context: Context) -> Tensor:
    """The indices as int64 in [0, size], where `size` stands for "outside": such an update is dropped.

    Negative indices wrap up to iOS16; since iOS17 they are outside. What Core ML does with an index outside is
    undefined but memory safe, unless `validate` asks for an error.
    """
    index = indices.to(torch.int64)
    if not context.since("ios17"):
        index = torch.where(index < 0, index + size, index)
    outside = (index < 0) | (index >= size)
    if is_real(outside) and not outside.any():
        return index
    if validate and is_real(outside):
        raise PredictionError(_REFUSED.format(name, int(index[outside][0]), size))
    return index.masked_fill(outside, size)


def _combine(data: Tensor, axis: int, index: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Scatter along one axis. Index data.shape[axis] falls into an extra slice that is cut off again."""
    size = data.shape[axis]
    spills = bool(index.numel()) and (not is_real(index) or int(index.max()) == size)
    if spills:
        data = torch.cat([data, data.new_ones(()).expand(_with_size(data, axis, 1))], dim=axis)
    result = _MODES[mode](data, axis, index, updates.to(data.dtype))
    return result.narrow(axis, 0, size) if spills else result


def _with_size(data: Tensor, axis: int, size: int) -> list[int]:
    shape = list(data.shape)
    shape[axis] = size
    return shape


def _divide(data: Tensor, axis: int, index: Tensor, updates: Tensor) -> Tensor:
    divisor = torch.ones_like(data).scatter_reduce(axis, index, updates, "prod")
    return torch.div(data, divisor, rounding_mode=None if data.is_floating_point() else "trunc")


_MODES: dict[str, Callable[[Tensor, int, Tensor, Tensor], Tensor]] = {
    "update": lambda data, axis, index, updates: data.scatter(axis, index, updates),
    "add": lambda data, axis, index, updates: data.scatter_add(axis, index, updates),
    "sub": lambda data, axis, index, updates: data.scatter_add(axis, index, -updates),
    "mul": lambda data, axis, index, updates: data.scatter_reduce(axis, index, updates, "prod"),
    "div": _divide,
    "max": lambda data, axis, index, updates: data.scatter_reduce(axis, index, updates, "amax"),
    "min": lambda data, axis, index, updates: data.scatter_reduce(axis, index, updates, "amin"),
}

OPS = table(scatter, scatter_along_axis, scatter_nd)
