"""Interpolation between the elements of a tensor."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from coreml_runtime.coreai.ops.sizes import expect
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.table import Floats, Ints, Kernel, table


def interpolate(
    *, x: Tensor, output_shape: Ints, scale: Floats, offset: Floats, interpolation_mode: str, context: Context
) -> Tensor:
    """x at the coordinates (place + 0.5 - offset) / scale - 0.5 along each axis, cut to the range of the axis."""
    expect(context, output_shape)
    for axis, (size, factor, shift) in enumerate(zip(output_shape, scale, offset, strict=True)):
        if size == x.shape[axis] and factor == 1.0 and shift == 0.0:
            continue
        places = torch.arange(size, dtype=torch.float32)
        coordinates = ((places + 0.5 - shift) / factor - 0.5).clamp(0, x.shape[axis] - 1)
        x = _along(x, axis, coordinates, interpolation_mode)
    return x


def _along(x: Tensor, axis: int, coordinates: Tensor, mode: str) -> Tensor:
    """x at fractional coordinates (K,) along one axis."""
    if mode == "nearest_neighbor":
        return x.index_select(axis, coordinates.round().long())
    low = coordinates.floor().long()
    high = (low + 1).clamp(max=x.shape[axis] - 1)
    weight = (coordinates - low).reshape(-1, *(1,) * (x.dim() - axis - 1)).to(x.dtype)
    first, second = x.index_select(axis, low), x.index_select(axis, high)
    return first * (1 - weight) + second * weight


def interpolate_coordinates(*, x: Tensor, coords: Tensor, interpolation_mode: str) -> Tensor:
    """x, of rank K, at absolute coordinates (N, K), cut to the edges: (N,)."""
    limits = torch.tensor([size - 1 for size in x.shape], dtype=coords.dtype)
    inside = torch.minimum(coords.clamp(min=0), limits)
    if interpolation_mode == "nearest_neighbor":
        return x[inside.round().long().unbind(1)]
    low = inside.floor()
    weight = inside - low
    result = torch.zeros(coords.shape[0], dtype=x.dtype)
    for corner in itertools.product((0, 1), repeat=x.dim()):
        step = torch.tensor(corner, dtype=coords.dtype)
        place = torch.minimum(low + step, limits).long()
        share = torch.where(step == 1, weight, 1 - weight).prod(dim=1)
        result += x[place.unbind(1)] * share.to(x.dtype)
    return result


OPS: dict[str, Kernel] = table(interpolate, interpolate_coordinates)
