"""Bounds of recurrent layers, of what draws numbers, and of dequantised values."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from coreml_runtime.intervals.context import Operand, Outputs, table
from coreml_runtime.intervals.interval import Interval, anything, as_interval, everywhere, make, widened

_BOUNDED = ("tanh", "scaled_tanh", "sigmoid")
_GATES = ("sigmoid", "hard_sigmoid", "sigmoid_hard")


def _each(bounds: tuple[tuple[float, float], ...], outputs: Outputs, *, nan: bool) -> tuple[Interval, ...]:
    sizes = [() if each is None else each.shape for each in outputs.types]
    return tuple(everywhere(low, high, size, nan=nan) for (low, high), size in zip(bounds, sizes, strict=True))


def _nothing(outputs: Outputs) -> tuple[Interval, ...]:
    return tuple(anything(() if each is None else each.shape) for each in outputs.types)


def lstm(
    *, x: Operand, initial_c: Operand, recurrent_activation: str = "sigmoid", cell_activation: str = "tanh",
    activation: str = "tanh", clip: float | None = None, outputs: Outputs, **_: object,
) -> tuple[Interval, ...]:  # fmt: skip
    """h is a gate times an activation; c grows by one at most with each step."""
    kinds = (
        cell_activation.lower() in _BOUNDED,
        activation.lower() in _BOUNDED,
        recurrent_activation.lower() in _GATES,
    )
    if not all(kinds):
        return _nothing(outputs)
    given, cell = as_interval(x), as_interval(initial_c)
    steps = given.sizes[0]
    most = math.inf if steps is None else (cell.magnitude + steps) * (1 + 2.0**-12)
    most = min(most, clip) if clip is not None else most
    nan = given.nan or cell.nan or math.isinf(given.magnitude)
    return _each(((-1.0, 1.0), (-1.0, 1.0), (-most, most)), outputs, nan=nan)


def gru(
    *, x: Operand, initial_h: Operand, recurrent_activation: str = "sigmoid", activation: str = "tanh",
    outputs: Outputs, **_: object,
) -> tuple[Interval, ...]:  # fmt: skip
    """h is a mean of its last value and an activation."""
    if activation.lower() not in _BOUNDED or recurrent_activation.lower() not in _GATES:
        return _nothing(outputs)
    given, state = as_interval(x), as_interval(initial_h)
    most = max(1.0, state.magnitude) * (1 + 2.0**-10)
    return _each(((-most, most),) * 2, outputs, nan=given.nan or state.nan or math.isinf(given.magnitude))


def rnn(*, x: Operand, activation: str = "tanh", outputs: Outputs, **_: object) -> tuple[Interval, ...]:
    """h is an activation."""
    given = as_interval(x)
    if activation.lower() not in _BOUNDED:
        return _nothing(outputs)
    return _each(((-1.0, 1.0),) * 2, outputs, nan=given.nan or math.isinf(given.magnitude))


def random_bernoulli(*, outputs: Outputs, **_: object) -> Interval:
    """0 or 1."""
    return everywhere(0, 1, outputs.sizes)


def random_uniform(*, low: float = 0.0, high: float = 1.0, outputs: Outputs, **_: object) -> Interval:
    """Between low and high."""
    return widened(everywhere(low, high, outputs.sizes), 2.0**-20, 2.0**-20 * (abs(low) + abs(high)), keeps_sign=False)


def random_categorical(*, x: Interval, outputs: Outputs, **_: object) -> Interval:
    """A number of a class."""
    count = x.sizes[-1]
    return everywhere(0, math.inf if count is None else count - 1, outputs.sizes)


_QUANTIZED: Callable[[str], tuple[float, float]] = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0)}.__getitem__


def quantize(*, output_dtype: str, outputs: Outputs, **_: object) -> Interval:
    """All that the type holds."""
    return everywhere(*_QUANTIZED(output_dtype), outputs.sizes)


def dequantize(
    *, input_: Interval, scale: Operand, zero_point: Operand | None = None, axis: int | None = None, outputs: Outputs
) -> Interval:
    """scale * (input - zero_point)."""
    if not isinstance(scale, Tensor) or isinstance(zero_point, Interval):
        return anything(outputs.sizes)
    shape = [1] * len(input_.sizes)
    if scale.numel() != 1 and axis is not None:
        shape[axis] = scale.numel()
    factor = scale.double().reshape(shape)
    zero = zero_point.double().reshape(-1) if zero_point is not None else torch.zeros(1, dtype=torch.float64)
    offset = zero.reshape(shape) if zero.numel() == factor.numel() else zero.amax()
    ends = (input_.low - offset) * factor, (input_.high - offset) * factor
    return widened(make(torch.minimum(*ends), torch.maximum(*ends), outputs.sizes), 2.0**-20)


TRANSFERS = table(lstm, gru, rnn, random_bernoulli, random_uniform, random_categorical, quantize, dequantize)
