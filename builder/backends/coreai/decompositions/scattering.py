"""Sums at indices, by the scatter that coreai-torch has."""

from __future__ import annotations

from typing import Any

from torch import Tensor, ops

_REDUCED = {"sum": "add", "prod": "multiply"}


def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """`x` with `src` added at `index` along `dim`."""
    return ops.aten.scatter.reduce(x, dim, index, _fitting(src, index), reduce="add")


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


def _fitting(src: Tensor, index: Tensor) -> Tensor:
    """The part of `src` that has an index."""
    for dimension, size in enumerate(index.shape):
        if src.shape[dimension] != size:
            src = src.narrow(dimension, 0, size)
    return src


OURS = {
    ops.aten.scatter_add.default: scatter_add,
    ops.aten.scatter_reduce.two: scatter_reduce,
    ops.aten.index_add.default: index_add,
}
