"""Operators that may write their result over an argument which nobody reads afterwards.

Memory that was just written is in the processor's cache, fresh memory is not, and large blocks of it come from the
system page by page. The result is bit for bit that of the ordinary kernel, whose arithmetic torch shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops import activation, elementwise_binary, elementwise_unary
from coreml_runtime.ops.table import Kernel, Value, exact, fresh


@exact
@fresh
def _relu(*, x: Tensor) -> Tensor:
    return torch.relu_(x)


@exact
@fresh
def _relu6(*, x: Tensor) -> Tensor:
    return functional.hardtanh_(x, 0.0, 6.0)


@exact
@fresh
def _clip(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.clamp_(alpha, beta)


@fresh
def _silu(*, x: Tensor) -> Tensor:
    return functional.silu(x, inplace=True)


@fresh
def _sigmoid(*, x: Tensor) -> Tensor:
    return x.sigmoid_()


@fresh
def _tanh(*, x: Tensor) -> Tensor:
    return x.tanh_()


@fresh
def _gelu(*, x: Tensor, mode: str = "EXACT") -> Tensor:
    if mode == "SIGMOID_APPROXIMATION":
        return x.mul_(torch.sigmoid(1.702 * x))
    result: Tensor = torch.ops.aten.gelu_.default(x, approximate="tanh" if mode == "TANH_APPROXIMATION" else "none")
    return result


@fresh
def _leaky_relu(*, x: Tensor, alpha: float) -> Tensor:
    return functional.leaky_relu_(x, alpha)


@fresh
def _elu(*, x: Tensor, alpha: float) -> Tensor:
    return functional.elu_(x, alpha)


@fresh
def _sigmoid_hard(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.mul_(_wrapped(alpha)).add_(_wrapped(beta)).clamp_(0.0, 1.0)


@fresh
def _sigmoid_hard_apart(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.mul(x, _wrapped(alpha)).add_(_wrapped(beta)).clamp_(0.0, 1.0)


@fresh
def _linear_activation(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    return x.mul_(_wrapped(alpha)).add_(_wrapped(beta))


@fresh
def _linear_activation_apart(*, x: Tensor, alpha: float, beta: float) -> Tensor:
    return torch.mul(x, _wrapped(alpha)).add_(_wrapped(beta))


def _wrapped(number: float) -> Tensor:
    """A number as torch wraps it in every call, made once: of a small tensor that is half of the time of a product."""
    return _made(number, math.copysign(1.0, number))


@cache
def _made(number: float, _sign: float) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(number, dtype=torch.float64)


@exact
@fresh
def _thresholded_relu(*, x: Tensor, alpha: float) -> Tensor:
    if x.dtype is not torch.float32:
        return torch.where(x < alpha, torch.zeros((), dtype=x.dtype), x, out=x)
    return torch.threshold_(x, activation.below(alpha), 0.0)


@fresh
def _softmax(*, x: Tensor, axis: int = -1) -> Tensor:
    """A row is read before it is written where the axis is the last one in memory; others take memory of their own."""
    last = axis in (-1, x.dim() - 1) and x.is_contiguous()
    return torch.softmax(x, axis, out=x) if last else torch.softmax(x, axis)


def _into(function: Callable[..., Value], target: str) -> Kernel:
    """A binary operator of torch that writes over its argument `target`."""
    if target == "x":

        def kernel(*, x: Tensor, y: Tensor) -> Tensor:
            return function(x, y, out=x)  # type: ignore[no-any-return]  # torch's own function
    else:

        def kernel(*, x: Tensor, y: Tensor) -> Tensor:
            return function(x, y, out=y)  # type: ignore[no-any-return]  # torch's own function

    return fresh(kernel)


IN_PLACE: dict[Kernel, dict[str, Kernel]] = {
    activation.relu: {"x": _relu},
    activation.relu6: {"x": _relu6},
    activation.silu: {"x": _silu},
    activation.sigmoid: {"x": _sigmoid},
    activation.gelu: {"x": _gelu},
    activation.leaky_relu: {"x": _leaky_relu},
    activation.elu: {"x": _elu},
    activation.sigmoid_hard: {"x": _sigmoid_hard},
    activation.linear_activation: {"x": _linear_activation},
    activation.thresholded_relu: {"x": _thresholded_relu},
    activation.softmax: {"x": _softmax},
    elementwise_unary.clip: {"x": _clip},
    elementwise_unary.tanh: {"x": _tanh},
    **{
        kernel: {target: _into(function, target) for target in ("x", "y")}
        for kernel, function in (
            (elementwise_binary.add, torch.add),
            (elementwise_binary.sub, torch.sub),
            (elementwise_binary.mul, torch.mul),
            (elementwise_binary.real_div, torch.div),
            (elementwise_binary.maximum, torch.maximum),
            (elementwise_binary.minimum, torch.minimum),
        )
    },
}
"""Ordinary kernel -> argument that may be written over -> kernel that does. All take floating tensors of one type."""

APART: dict[Kernel, Kernel] = {
    activation.sigmoid_hard: _sigmoid_hard_apart,
    activation.linear_activation: _linear_activation_apart,
}
"""Ordinary kernel -> one with the same result in memory of its own, for where nothing may be written over.

It takes tensors of at least one axis: of those the number beside them does not decide the type.
"""
