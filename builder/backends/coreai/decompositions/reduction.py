"""Sums, products and extremes along an axis."""

from __future__ import annotations

import torch
from torch import Tensor, ops

TORCHS = (
    ops.aten.var.correction,
    ops.aten.var_mean.correction,
    ops.aten.std.correction,
    ops.aten._native_batch_norm_legit.no_stats,
)


def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index of the smallest: that of the greatest of the negated (int: all but the least have a negation)."""
    return torch.argmax(-x, dim, keepdim)


def cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Products of all up to each place, by doubling: after k rounds each holds the product of 2^k neighbours.

    Hillis and Steele, CACM 29, 1986.
    """
    x = x if dtype is None else x.to(dtype)
    size, shift = x.shape[dim], 1
    while shift < size:
        ones = torch.ones_like(x.narrow(dim, 0, shift))
        x = x * torch.cat([ones, x.narrow(dim, 0, size - shift)], dim)
        shift *= 2
    return x


OURS = {ops.aten.argmin.default: argmin, ops.aten.cumprod.default: cumprod}
