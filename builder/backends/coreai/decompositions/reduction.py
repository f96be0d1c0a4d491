"""Sums, products and extremes along an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, ops

if TYPE_CHECKING:
    from torch._ops import OpOverload

TORCHS = (ops.aten._native_batch_norm_legit.no_stats,)


def var(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    """The mean of squared distances to the mean, with `correction` taken off the count (1 unless given)."""
    dims = list(dim) if dim else list(range(x.ndim))
    count = math.prod(x.shape[d] for d in dims)
    distances = x - x.mean(dims, keepdim=True)
    return (distances * distances).sum(dims, keepdim=keepdim) / (count - (1 if correction is None else correction))


def std(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    """The root of `var`."""
    return var(x, dim, correction=correction, keepdim=keepdim).sqrt()


def var_mean(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """`var` and the mean."""
    return var(x, dim, correction=correction, keepdim=keepdim), x.mean(list(dim or range(x.ndim)), keepdim)


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest: that of the greatest of the negated (int: all but the least have a negation)."""
    return torch.argmax(-x, dim, keepdim)


def _with_place(extreme: Callable[..., Tensor], place: Callable[..., Tensor]) -> Callable[..., Any]:
    """`max` and `min` along an axis: coreai-torch's place is not that of NaN."""

    def along(x: Tensor, dim: int, keepdim: bool = False) -> Any:
        if not x.is_floating_point() or not x.dim():
            return NotImplemented
        return extreme(x, dim, keepdim), place(x, dim, keepdim)

    return along


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Products of all up to each place, by doubling: after k rounds each holds the product of 2^k neighbours.

    Hillis and Steele, CACM 29, 1986.
    """
    is_whole = not (x.is_floating_point() or x.is_complex())
    x = x.to(dtype or (torch.int64 if is_whole else x.dtype))
    size, shift = x.shape[dim], 1
    while shift < size:
        ones = torch.ones_like(x.narrow(dim, 0, shift))
        x = x * torch.cat([ones, x.narrow(dim, 0, size - shift)], dim)
        shift *= 2
    return x


def _running(better: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, int], tuple[Tensor, Tensor]]:
    """The best up to each place, and where it is, the last of equal ones; NaN is better than all. As `cumprod`."""

    def running(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
        size, shift = x.shape[dim], 1
        along = [1] * x.ndim
        along[dim] = size
        places = torch.arange(size, dtype=torch.int64).reshape(along).expand(x.shape).clone()
        while shift < size:
            before, place = x.narrow(dim, 0, size - shift), places.narrow(dim, 0, size - shift)
            this, own = x.narrow(dim, shift, size - shift), places.narrow(dim, shift, size - shift)
            stays = better(this, before) | this.ne(this)
            stays = stays & (before.eq(before) | this.ne(this))
            x = torch.cat([x.narrow(dim, 0, shift), torch.where(stays, this, before)], dim)
            places = torch.cat([places.narrow(dim, 0, shift), torch.where(stays, own, place)], dim)
            shift *= 2
        return x, places

    return running


def _over_all(overload: OpOverload) -> Callable[..., object]:
    """An extremum over all axes, which coreai-torch takes where they are named."""

    def extremum(x: Tensor, dim: Sequence[int] = (), keepdim: bool = False) -> object:
        return NotImplemented if dim or not x.dim() else overload(x, list(range(x.dim())), keepdim)

    return extremum


def any_of_all(x: Tensor) -> Any:
    """Of one number whether it is not zero: coreai-torch reduces no axes of none, and ends its process."""
    return NotImplemented if x.dim() else x.ne(0)


def all_of_all(x: Tensor) -> Tensor:
    """Whether none is zero, which coreai-torch has along an axis alone."""
    return x.ne(0).logical_not().any().logical_not()


OURS: dict[OpOverload, Callable[..., object]] = {
    **{each: _over_all(each) for each in (ops.aten.amax.default, ops.aten.amin.default)},
    ops.aten.all.default: all_of_all,
    ops.aten.any.default: any_of_all,
    ops.aten.argmin.default: argmin,
    ops.aten.cummax.default: _running(torch.ge),
    ops.aten.cummin.default: _running(torch.le),
    ops.aten.cumprod.default: cumprod,
    ops.aten.max.dim: _with_place(torch.amax, torch.argmax),
    ops.aten.min.dim: _with_place(torch.amin, torch.argmin),
    ops.aten.std.correction: std,
    ops.aten.var.correction: var,
    ops.aten.var_mean.correction: var_mean,
}
