"""Distances between rows, and Fourier transforms as products with their matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, ops

if TYPE_CHECKING:
    from torch._ops import OpOverload


def cdist(x1: Tensor, x2: Tensor, p: float, compute_mode: int | None) -> Any:  # noqa: ARG001 - aten's arguments
    """The p-norm of the differences of all rows, (…, P, M) and (…, R, M) to (…, P, R)."""
    differences = (x1.unsqueeze(-2) - x2.unsqueeze(-3)).abs()
    if p == 0:
        return differences.ne(0).to(x1.dtype).sum(-1)
    if p == 1:
        return differences.sum(-1)
    if p == 2:
        return (differences * differences).sum(-1).sqrt()
    return differences.amax(-1) if p == math.inf else differences.pow(p).sum(-1).pow(1 / p)


def fft_r2c(x: Tensor, dim: Sequence[int], normalization: int, onesided: bool) -> Any:
    """A Fourier transform of real numbers along one axis; along several, it is left and refused by name."""
    if len(dim) != 1:
        return NotImplemented
    size = x.shape[dim[0]]
    count = size // 2 + 1 if onesided else size
    cosines, sines = _waves(size, count)
    moved = x.movedim(dim[0], -1)
    scale = _scale(size, normalization)
    real, imaginary = moved @ (cosines * scale), moved @ (-sines * scale)
    return torch.complex(real, imaginary).movedim(-1, dim[0])


def fft_c2r(x: Tensor, dim: Sequence[int], normalization: int, last_dim_size: int) -> Any:
    """The real inverse of a one-sided transform along one axis: each wave but the first and the middle counts twice."""
    if len(dim) != 1:
        return NotImplemented
    count = last_dim_size // 2 + 1
    cosines, sines = _waves(last_dim_size, count)
    has_middle = last_dim_size % 2 == 0
    once = torch.ones(1, 1)
    weights = torch.cat([once, torch.full((count - 1 - has_middle, 1), 2.0), *[once] * has_middle])
    parts = torch.view_as_real(x.movedim(dim[0], -1))
    scale = _scale(last_dim_size, normalization)
    real = parts.select(-1, 0) @ (cosines.T * weights * scale)
    return (real - parts.select(-1, 1) @ (sines.T * weights * scale)).movedim(-1, dim[0])


def _waves(size: int, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (size, count) of the first `count` frequencies, exact to float32."""
    places = torch.arange(size, dtype=torch.float64).unsqueeze(1) * torch.arange(count, dtype=torch.float64)
    angles = places % size * (2 * math.pi / size)
    return angles.cos().float(), angles.sin().float()


def _scale(size: int, normalization: int) -> float:
    """By aten's number for no scale, one by the root, and one by the size (aten/native/SpectralOpsUtils.h)."""
    return (1.0, 1 / math.sqrt(size), 1 / size)[normalization]


def addbmm(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * x + alpha * sum(a @ b)` over the batch."""
    beta, alpha = _factor(x, beta), _factor(x, alpha)
    return x * beta + (a @ b).sum(0, dtype=x.dtype) * alpha


def addmv(x: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """`beta * x + alpha * a @ b` of a matrix and a vector."""
    return x * _factor(x, beta) + (a @ b) * _factor(x, alpha)


def _factor(x: Tensor, number: float) -> float:
    """A factor as torch takes it: of integers it is one."""
    return number if x.is_floating_point() else int(number)


def complex_of_any(real: Tensor, imaginary: Tensor) -> Any:
    """Numbers of parts with other sizes, which coreai-torch takes where they are the same."""
    if real.shape == imaginary.shape:
        return NotImplemented
    shape = (real * imaginary).shape
    return torch.complex(real.expand(shape).clone(), imaginary.expand(shape).clone())


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten._cdist_forward.default: cdist,
    ops.aten.addbmm.default: addbmm,
    ops.aten.addmv.default: addmv,
    ops.aten.complex.default: complex_of_any,
    ops.aten._fft_r2c.default: fft_r2c,
    ops.aten._fft_c2r.default: fft_c2r,
}
