"""Sorting, by the top-k of all: Core AI's dialect can sort, and coreai-torch has no lowering for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, ops

if TYPE_CHECKING:
    from torch._ops import OpOverload


def sort(x: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """Values and their places along `dim`; the order of equal values is not defined, as in torch."""
    if x.ndim == 0:
        return x.clone(), torch.zeros_like(x, dtype=torch.int64)
    values, indices = torch.topk(x, x.shape[dim], dim, descending, True)
    return values, indices


def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The k-th smallest, counted from one, and its place."""
    values, indices = torch.topk(x, k, dim, False, True)
    found = values.narrow(dim, k - 1, 1), indices.narrow(dim, k - 1, 1)
    return found if keepdim else (found[0].squeeze(dim), found[1].squeeze(dim))


def median(x: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """The lower of the middle values along `dim`."""
    return kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim)


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten.sort.default: sort,
    ops.aten.kthvalue.default: kthvalue,
    ops.aten.median.dim: median,
}
