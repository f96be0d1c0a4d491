"""Sums, products and extremes at indices, by the scatter that coreai-torch has."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, ops

if TYPE_CHECKING:
    from torch._ops import OpOverload


def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`x` with `src` added at `index` along `dim`."""
    return _scattered(x, dim, index, _fitting(src, index), accumulate=True)


def scatter_reduce(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Any:
    """`x` with `src` reduced into it at `index` along `dim`, where `x` itself counts with `include_self`."""
    src = _fitting(src, index)
    if reduce in ("amax", "amin"):
        return _extreme(x, dim, index, src, greatest=reduce == "amax", include_self=include_self)
    if reduce == "mean" and not x.is_floating_point():
        return NotImplemented
    own = x if include_self else torch.scatter(x, dim, index, 1 if reduce == "prod" else 0)
    reduced = ops.aten.scatter.reduce(own, dim, index, src, reduce="multiply" if reduce == "prod" else "add")
    if reduce != "mean":
        return reduced
    once = torch.ones_like(x)
    counts = once if include_self else torch.scatter(once, dim, index, 0)
    return reduced / _scattered(counts, dim, index, torch.ones_like(src), accumulate=True)


def _extreme(x: Tensor, dim: int, index: Tensor, src: Tensor, *, greatest: bool, include_self: bool) -> Any:
    """The extremes of those that meet at an index, by a mask (…, places, values): coreai-torch has no such scatter."""
    others = [d for d in range(x.ndim) if d != dim % x.ndim]
    if any(index.shape[d] != x.shape[d] for d in others) or x.dtype is torch.bool:
        return NotImplemented
    values, at, own = src.movedim(dim, -1), index.movedim(dim, -1), x.movedim(dim, -1)
    meets = at.unsqueeze(-2) == torch.arange(x.shape[dim]).unsqueeze(-1)
    if _is_large(meets):
        return NotImplemented
    limits = torch.finfo(x.dtype) if x.is_floating_point() else torch.iinfo(x.dtype)
    worst = (
        (limits.min if greatest else limits.max) if not x.is_floating_point() else -math.inf if greatest else math.inf
    )
    met = torch.where(meets, values.unsqueeze(-2), torch.full((), worst, dtype=x.dtype))
    found = met.amax(-1) if greatest else met.amin(-1)
    if include_self:
        found = torch.maximum(own, found) if greatest else torch.minimum(own, found)
    else:
        found = torch.where(meets.any(-1), found, own)
    return found.movedim(-1, dim)


_MOST = 2**26
"""How many values a mask may have: a tenth of a gigabyte of bools and four of floats, of which an app has few."""


def _is_large(mask: Tensor) -> bool:
    sizes = [size for size in mask.shape if isinstance(size, int)]
    return math.prod(sizes) > _MOST


def index_reduce(x: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Any:
    """`x` with slices of `source` reduced into it at `index` along `dim`."""
    shape = [1] * x.ndim
    shape[dim] = index.shape[0]
    return scatter_reduce(x, dim, index.reshape(shape).expand(source.shape), source, reduce, include_self=include_self)


def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: float = 1) -> Tensor:
    """`x` with slices of `source` added at `index` along `dim`."""
    shape = [1] * x.ndim
    shape[dim] = index.shape[0]
    source = source if alpha == 1 else source * alpha
    return scatter_add(x, dim, index.reshape(shape).expand(source.shape), source)


def index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Any:
    """`x` with `values` at indices: coreai-torch's own ends the interpreter's process where values are broadcast.

    One index alone goes along its axis; several count places in flat memory. Masks are left to coreai-torch.
    """
    given = [(axis, index) for axis, index in enumerate(indices) if index is not None]
    if any(index.dtype in (torch.bool, torch.uint8) for _, index in given):
        return NotImplemented
    if len(given) == 1 and given[0][1].ndim == 1:
        ((axis, index),) = given
        index = torch.where(index < 0, index + x.shape[axis], index)
        shape = [*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :]]
        places = index.reshape([-1 if d == axis else 1 for d in range(x.ndim)]).expand(shape)
        return _scattered(x, axis, places, values.expand(shape), accumulate=accumulate)
    numbers = torch.arange(x.numel()).reshape(x.shape)
    flat = ops.aten.index.Tensor(numbers, list(indices))
    values = values.expand(flat.shape).reshape(-1)
    return _scattered(x.reshape(-1), 0, flat.reshape(-1), values, accumulate=accumulate).reshape(x.shape)


def _scattered(x: Tensor, axis: int, index: Tensor, values: Tensor, *, accumulate: bool) -> Tensor:
    if accumulate:
        return torch.scatter(x, axis, index, values, reduce="add")
    return torch.scatter(x, axis, index, values)


def _fitting(src: Tensor, index: Tensor) -> Tensor:
    """The part of `src` that has an index."""
    for dimension, size in enumerate(index.shape):
        if src.shape[dimension] != size:
            src = src.narrow(dimension, 0, size)
    return src


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten.scatter_add.default: scatter_add,
    ops.aten.scatter_reduce.two: scatter_reduce,
    ops.aten.index_add.default: index_add,
    ops.aten.index_reduce.default: index_reduce,
    ops.aten.index_put.default: index_put,
    ops.aten._unsafe_index_put.default: index_put,
}
