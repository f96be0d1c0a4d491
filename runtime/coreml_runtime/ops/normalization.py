"""Normalisations."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.table import Ints, Kernel, fresh, table


@fresh
def batch_norm(
    *, x: Tensor, mean: Tensor, variance: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:  # fmt: skip
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta along axis 1. x (N, C, *D), the others (C,)."""
    return functional.batch_norm(x, mean, variance, gamma, beta, False, 0.0, epsilon)


@fresh
def instance_norm(
    *, x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """Normalise each sample and channel over its spatial dimensions. x (N, C, *D), gamma and beta (C,)."""
    axes = tuple(range(2, x.dim()))
    variance, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    result = (x - mean) * torch.rsqrt(variance + epsilon)
    shape = (-1, *(1,) * len(axes))
    if gamma is not None:
        result = result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


def l2_norm(*, x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """x / sqrt(sum of squares over the last three axes + epsilon)."""
    return x * torch.rsqrt(torch.sum(torch.square(x), dim=(-3, -2, -1), keepdim=True) + epsilon)


@fresh
def layer_norm(
    *, x: Tensor, axes: Ints | None = None, gamma: Tensor | None = None, beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:  # fmt: skip
    """Normalise over `axes` (all if None); gamma and beta have the shape of those axes of x."""
    chosen = sorted(axis % x.dim() for axis in (range(x.dim()) if axes is None else axes))
    if chosen == list(range(x.dim() - len(chosen), x.dim())):
        return functional.layer_norm(x, x.shape[-len(chosen) :], gamma, beta, epsilon)
    variance, mean = torch.var_mean(x, dim=chosen, correction=0, keepdim=True)
    result = (x - mean) * torch.rsqrt(variance + epsilon)
    shape = tuple(size if axis in chosen else 1 for axis, size in enumerate(x.shape))
    if gamma is not None:
        result = result * gamma.reshape(shape)
    return result if beta is None else result + beta.reshape(shape)


def local_response_norm(*, x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha / size * sum of squares of `size` neighbouring channels)^beta; the channels are axis -3."""
    squares = x.square().movedim(-3, -1)
    padded = functional.pad(squares, (size // 2, (size - 1) // 2))
    sums = padded.unfold(-1, size, 1).sum(-1).movedim(-1, -3)
    return x / torch.pow(k + alpha / size * sums, beta)


OPS: dict[str, Kernel] = table(batch_norm, instance_norm, l2_norm, layer_norm, local_response_norm)
