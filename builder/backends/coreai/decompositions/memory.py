"""Views by strides, which a program of values does not have: gathered by index, or nothing where nothing changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, ops

if TYPE_CHECKING:
    from torch._ops import OpOverload

TORCHS = (ops.aten.diagonal.default, ops.aten.diagonal_copy.default)


def as_strided(x: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """The elements at `offset + sum(i * stride)` of the memory that `x` fills without gaps.

    Given:   x (2, 3) with strides (3, 1), size (3, 2), stride (1, 3)
    Result:  x.reshape(-1)[[[0, 3], [1, 4], [2, 5]]]
    """
    if tuple(size) == tuple(x.shape) and tuple(stride) == tuple(x.stride()) and not storage_offset:
        return x.clone()
    order = sorted(range(x.ndim), key=lambda d: (-x.stride()[d], -x.shape[d]))
    memory = x.permute(order).reshape(-1)
    places = torch.full((), storage_offset or 0, dtype=torch.int64)
    for dimension, (count, step) in enumerate(zip(size, stride, strict=True)):
        shape = [1] * len(size)
        shape[dimension] = count
        places = places + (torch.arange(count) * step).reshape(shape)
    return torch.index_select(memory, 0, places.reshape(-1)).reshape(list(size))


def unfold(x: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` elements, `step` apart, along an axis: their elements become the last axis.

    Given:   x (…, L, …)
    Result:  x at the places (window * step + element), (…, (L - size) // step + 1, …, size)
    """
    axis = dimension % x.dim()
    count = (x.shape[axis] - size) // step + 1
    places = (torch.arange(count) * step).reshape(-1, 1) + torch.arange(size)
    found = torch.index_select(x, axis, places.reshape(-1))
    shape = [*x.shape[:axis], count, size, *x.shape[axis + 1 :]]
    return found.reshape(shape).movedim(axis + 1, -1)


def to_scalar(x: Tensor, size: Sequence[int]) -> Any:
    """A view without axes, which coreai-torch cannot make of a shape without numbers."""
    return NotImplemented if size or not x.dim() else x.squeeze(tuple(range(x.dim())))


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten.as_strided.default: as_strided,
    ops.aten.as_strided_copy.default: as_strided,
    ops.aten.unfold.default: unfold,
    ops.aten.view.default: to_scalar,
    ops.aten.unfold_copy.default: unfold,
}
