"""Sorting, by the top-k of all: Core AI's dialect can sort, and coreai-torch has no lowering for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import SymInt, Tensor, ops

from builder.backends.coreai.decompositions.padding import constant_pad_nd

_MOST_STABLE = 2048
"""Rows up to which equal values are sorted in their order."""
_MOST = 65536
"""Rows are filled to the largest size before they are sorted."""

if TYPE_CHECKING:
    from torch._ops import OpOverload


def sort(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Values and their places along `dim`; the order of equal values is not defined, as in torch."""
    if x.ndim == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    size = x.shape[dim]
    values, indices = torch.topk(_filled(x, dim, descending), _largest(size), dim, descending, True)
    if isinstance(size, SymInt):
        return values.narrow(dim, 0, size), indices.narrow(dim, 0, size)
    return values, indices


def _largest(size: int | SymInt) -> int:
    """The most that a size may be: Core AI's top-k takes a number."""
    if not isinstance(size, SymInt):
        return int(size)
    most = size.node.shape_env.bound_sympy(size.node.expr).upper
    if not most.is_Integer or most > _MOST:
        raise NotImplementedError(f"sorting over a size of more than {_MOST} is not converted")
    return int(most)


def _filled(x: Tensor, dim: int, descending: bool) -> Tensor:
    """As long as the size may become, with what comes last in that order."""
    size = x.shape[dim]
    if not isinstance(size, SymInt):
        return x
    ends = (-torch.inf, torch.inf) if x.is_floating_point() else (torch.iinfo(x.dtype).min, torch.iinfo(x.dtype).max)
    behind = [0, 0] * (x.ndim - 1 - dim % x.ndim)
    return constant_pad_nd(x, [*behind, 0, _largest(size) - size], ends[0] if descending else ends[1])


def stable_sort(
    x: Tensor, *, stable: bool | None = None, dim: int = -1, descending: bool = False
) -> tuple[Tensor, Tensor]:
    """As `sort`, with equal values in their order: by how many come before each, of which no two are equal.

    NaN is the greatest, as in torch. Takes as many comparisons as the size squared.
    """
    size = x.shape[dim] if x.ndim else 1
    if not stable or not x.ndim:
        return sort(x, dim, descending)
    if isinstance(size, SymInt) or size > _MOST_STABLE:
        raise NotImplementedError(f"sorting equal values in their order over a size of more than {_MOST_STABLE}")
    rows = x.movedim(dim, -1)
    this, other = rows.unsqueeze(-1), rows.unsqueeze(-2)
    if descending:
        this, other = other, this
    before = other.lt(this) | (this.ne(this) & other.eq(other))
    same = other.eq(this) | (this.ne(this) & other.ne(other))
    places = torch.arange(size)
    first = places.unsqueeze(0) < places.unsqueeze(1)
    count = (before | (same & first)).to(torch.int32).sum(-1, dtype=torch.int32)
    indices = torch.topk(count, size, -1, False, True)[1]
    return torch.gather(rows, -1, indices).movedim(-1, dim), indices.movedim(-1, dim)


def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """As many as a size says, of all in order: Core AI's top-k takes a number."""
    del sorted
    if not isinstance(k, SymInt):
        return NotImplemented
    values, indices = sort(x, dim, largest)
    return values.narrow(dim, 0, k), indices.narrow(dim, 0, k)


def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The k-th smallest, counted from one, and its place."""
    values, indices = sort(x, dim) if isinstance(k, SymInt) else torch.topk(x, k, dim, False, True)
    found = values.narrow(dim, k - 1, 1), indices.narrow(dim, k - 1, 1)
    return found if keepdim else (found[0].squeeze(dim), found[1].squeeze(dim))


def median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of the middle values along `dim`."""
    return kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten.sort.default: sort,
    ops.aten.sort.stable: stable_sort,
    ops.aten.kthvalue.default: kthvalue,
    ops.aten.median.dim: median,
    ops.aten.topk.default: topk,
}
