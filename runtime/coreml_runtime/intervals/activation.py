"""Bounds of activation functions."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from coreml_runtime.intervals.context import table
from coreml_runtime.intervals.interval import Interval, everywhere, limited, widened
from coreml_runtime.intervals.unary import LOOSE, ULP, carried, rising, tanh

_VALLEYS = {
    "EXACT": (-0.7518, -0.17005), "TANH_APPROXIMATION": (-0.7525, -0.1702), "SIGMOID_APPROXIMATION": (-0.7512, -0.1637),
    "SILU": (-1.2785, -0.27848),
}  # fmt: skip
"""Of functions of the form x * gate(x): where the minimum is, and a little less than it."""


_NO_VALLEY = 8.0
"""From here on such a function is the identity, but for rounding."""


def gelu(*, x: Interval, mode: str = "EXACT") -> Interval:
    """Gaussian error linear unit."""
    return _gated(x, *_VALLEYS[mode])


def silu(*, x: Interval) -> Interval:
    """x * sigmoid(x)."""
    return _gated(x, *_VALLEYS["SILU"])


def _gated(x: Interval, valley: float, least: float) -> Interval:
    """Between min(x, 0) and max(x, 0), and at least `least`; not below zero where x is not."""
    low = torch.where(x.low >= 0, torch.zeros_like(x.low), x.low.clamp(min=least))
    low = torch.where((x.low < valley) & (x.high >= valley), torch.full_like(low, least), low)
    made = widened(carried(x, low, x.high.clamp(min=0.0)), LOOSE)
    return replace(made, reached=x.reached and x.greatest > _NO_VALLEY)


def sigmoid(*, x: Interval) -> Interval:
    """1 / (1 + e^-x)."""
    return limited(rising(torch.sigmoid, x, LOOSE), 0, 1)


def softplus(*, x: Interval) -> Interval:
    """log(1 + e^x)."""
    return rising(lambda value: torch.logaddexp(value, torch.zeros_like(value)), x, LOOSE)


def softsign(*, x: Interval) -> Interval:
    """x / (1 + |x|)."""
    return limited(rising(_softsign, x), -1, 1)


def _softsign(value: Tensor) -> Tensor:
    return torch.where(value.isinf(), value.sign(), value / (1 + value.abs()))


def relu(*, x: Interval) -> Interval:
    """max(x, 0)."""
    return rising(lambda value: value.clamp(min=0.0), x, 0.0)


def relu6(*, x: Interval) -> Interval:
    """x limited to [0, 6]."""
    return rising(lambda value: value.clamp(0.0, 6.0), x, 0.0)


def thresholded_relu(*, x: Interval, alpha: float) -> Interval:
    """x where x >= alpha, 0 elsewhere."""
    kept = x.low.clamp(min=alpha), x.high
    low = torch.where(x.low >= alpha, x.low, torch.minimum(kept[0], torch.zeros_like(x.low)))
    high = torch.where(
        x.high >= alpha, torch.where(x.low >= alpha, x.high, x.high.clamp(min=0.0)), torch.zeros_like(x.high)
    )
    low = torch.where(x.high >= alpha, low, torch.zeros_like(low))
    return replace(carried(x, low, high), reached=False, sources=None)


def _linear(value: Tensor, alpha: float, beta: float) -> Tensor:
    return alpha * value + beta if alpha else torch.full_like(value, beta)


def linear_activation(*, x: Interval, alpha: float, beta: float) -> Interval:
    """alpha * x + beta."""
    ends = _linear(x.low, alpha, beta), _linear(x.high, alpha, beta)
    slack = ULP * (abs(alpha) * x.magnitude + abs(beta)) if math.isfinite(x.magnitude) else 0.0
    return widened(carried(x, torch.minimum(*ends), torch.maximum(*ends)), ULP, slack, keeps_sign=False)


def sigmoid_hard(*, x: Interval, alpha: float, beta: float) -> Interval:
    """alpha * x + beta limited to [0, 1]."""
    return limited(linear_activation(x=x, alpha=alpha, beta=beta), 0.0, 1.0)


def scaled_tanh(*, x: Interval, alpha: float, beta: float) -> Interval:
    """alpha * tanh(beta * x)."""
    inner = tanh(x=linear_activation(x=x, alpha=beta, beta=0.0))
    return linear_activation(x=inner, alpha=alpha, beta=0.0)


def leaky_relu(*, x: Interval, alpha: float) -> Interval:
    """x where x >= 0, alpha * x elsewhere."""
    return _folded(x, x.low * alpha, x.high * alpha)


def _folded(x: Interval, low: Tensor, high: Tensor) -> Interval:
    """x where x >= 0, else what is `low` and `high` at the ends, and linear or nearly so in between, 0 at 0."""
    ends = torch.where(x.low >= 0, x.low, low), torch.where(x.high >= 0, x.high, high)
    least, most = torch.minimum(*ends), torch.maximum(*ends)
    crosses = (x.low < 0) & (x.high > 0)
    least = torch.where(crosses, least.clamp(max=0.0), least)
    most = torch.where(crosses, most.clamp(min=0.0), most)
    return widened(carried(x, least, most), LOOSE)


def elu(*, x: Interval, alpha: float) -> Interval:
    """x where x > 0, alpha * (e^x - 1) elsewhere."""
    return _folded(x, alpha * torch.expm1(x.low.clamp(max=0)), alpha * torch.expm1(x.high.clamp(max=0)))


def clamped_relu(*, x: Interval, alpha: float, beta: float) -> Interval:
    """min(beta, x) where x >= 0, min(beta, alpha * x) elsewhere."""
    return rising(lambda value: value.clamp(max=beta), leaky_relu(x=x, alpha=alpha), 0.0)


def prelu(*, x: Interval, alpha: Tensor) -> Interval:
    """x where x > 0, alpha[c] * x elsewhere; channels are axis 1."""
    scale = alpha.double().reshape(1, -1, *(1,) * (len(x.sizes) - 2)) if len(x.sizes) > 1 else alpha.double().amax()
    if len(x.sizes) > 1:
        return _folded(x, x.low * scale, x.high * scale)
    return everywhere(-math.inf, math.inf, x.sizes)


TRANSFERS = table(
    gelu, silu, sigmoid, softplus, softsign, relu, relu6, thresholded_relu, linear_activation, sigmoid_hard,
    scaled_tanh, leaky_relu, elu, clamped_relu, prelu,
)  # fmt: skip
