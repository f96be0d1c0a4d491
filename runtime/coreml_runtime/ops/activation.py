"""Activation functions."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.table import Kernel, exact, fresh, table


def _per_channel(value: Tensor, x: Tensor) -> Tensor:
    """(C,) -> (C, 1, …), to broadcast along axis 1 of x (N, C, …)."""
    return value.reshape(-1, *(1,) * (x.dim() - 2))


@fresh
def clamped_relu(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    """min(beta, x) where x >= 0, min(beta, alpha * x) elsewhere."""
    return torch.clamp(torch.where(x >= 0, x, alpha * x), max=beta)


@fresh
def elu(*, x: Tensor, alpha: float) -> Tensor:
    """x where x > 0, alpha * (e^x - 1) elsewhere."""
    return functional.elu(x, alpha)


@fresh
def gelu(*, x: Tensor, mode: str = "EXACT") -> Tensor:
    """Gaussian error linear unit, exact or by one of two approximations."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")


@fresh
def leaky_relu(*, x: Tensor, alpha: float) -> Tensor:
    """x where x >= 0, alpha * x elsewhere."""
    return functional.leaky_relu(x, alpha)


@fresh
def linear_activation(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * x + beta."""
    return (alpha * x).add_(beta)


@fresh
def prelu(*, x: Tensor, alpha: Tensor) -> Tensor:
    """x where x > 0, alpha[c] * x elsewhere. x (N, C, …), alpha (C,)."""
    return torch.where(x > 0, x, _per_channel(alpha, x) * x)


@exact
@fresh
def relu(*, x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


@exact
@fresh
def relu6(*, x: Tensor) -> Tensor:
    """x limited to [0, 6]."""
    return functional.hardtanh(x, 0.0, 6.0)


@fresh
def scaled_tanh(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * tanh(beta * x)."""
    return alpha * torch.tanh(beta * x)


@fresh
def sigmoid(*, x: Tensor) -> Tensor:
    """1 / (1 + e^-x)."""
    return torch.sigmoid(x)


@fresh
def sigmoid_hard(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    """alpha * x + beta limited to [0, 1]."""
    return (alpha * x).add_(beta).clamp_(0.0, 1.0)


@fresh
def silu(*, x: Tensor) -> Tensor:
    """x * sigmoid(x)."""
    return functional.silu(x)


def softplus(*, x: Tensor) -> Tensor:
    """log(1 + e^x)."""
    return torch.logaddexp(x, torch.zeros((), dtype=x.dtype))


def softplus_parametric(*, x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """alpha[c] * log(1 + e^(beta[c] * x)). x (N, C, …), alpha and beta (C,)."""
    return _per_channel(alpha, x) * softplus(x=_per_channel(beta, x) * x)


@fresh
def softmax(*, x: Tensor, axis: int = -1) -> Tensor:
    """Softmax along an axis."""
    return torch.softmax(x, axis)


def softsign(*, x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return functional.softsign(x)


@exact
@fresh
def thresholded_relu(*, x: Tensor, alpha: float) -> Tensor:
    """x where x >= alpha, 0 elsewhere; NaN stays NaN."""
    if x.dtype is not torch.float32:
        return torch.where(x < alpha, torch.zeros((), dtype=x.dtype), x)
    return functional.threshold(x, below(alpha), 0.0)


@cache
def below(number: float) -> float:
    """The largest number in single precision below another: torch's threshold drops what is equal to it."""
    return float(np.nextafter(np.float32(number), np.float32(-np.inf)))


OPS: dict[str, Kernel] = table(
    clamped_relu, elu, gelu, leaky_relu, linear_activation, prelu, relu, relu6, scaled_tanh, sigmoid, sigmoid_hard,
    silu, softplus, softplus_parametric, softmax, softsign, thresholded_relu,
)  # fmt: skip
