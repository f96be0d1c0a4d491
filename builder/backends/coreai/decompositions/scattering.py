"""Sums at indices, by the scatter that coreai-torch has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, ops

if TYPE_CHECKING:
    from torch._ops import OpOverload

_REDUCED = {"sum": "add", "prod": "multiply"}


def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`x` with `src` added at `index` along `dim`."""
    return _scattered(x, dim, index, _fitting(src, index), accumulate=True)


def scatter_reduce(x: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True) -> Any:
    """Sums and products where `x` itself takes part; others stay as they are, and are refused by name."""
    if not include_self or reduce not in _REDUCED:
        return NotImplemented
    return ops.aten.scatter.reduce(x, dim, index, _fitting(src, index), reduce=_REDUCED[reduce])


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
    ops.aten.index_put.default: index_put,
    ops.aten._unsafe_index_put.default: index_put,
}
