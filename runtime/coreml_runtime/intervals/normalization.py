"""Bounds of normalisations and softmax."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from coreml_runtime.intervals.context import Operand, Outputs, table
from coreml_runtime.intervals.interval import (
    Ball,
    Interval,
    anything,
    as_interval,
    everywhere,
    make,
    reduced,
    widened,
)
from coreml_runtime.intervals.unary import ULP

_CANCELLED = 2.0**-21
"""What a mean in single precision is off by, to the largest value: it does not cancel where a variance is small."""


def batch_norm(
    *, x: Interval, mean: Operand, variance: Operand, gamma: Operand | None = None, beta: Operand | None = None,
    epsilon: float = 1e-5, outputs: Outputs,
) -> Interval:  # fmt: skip
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta along axis 1."""
    known = [each for each in (mean, variance, gamma, beta) if each is not None]
    if not all(isinstance(each, Tensor) for each in known):
        return anything(outputs.sizes)
    shape = (1, -1, *(1,) * (len(x.sizes) - 2))
    scale = (as_interval(variance).low + epsilon).rsqrt()
    scale = (scale * as_interval(gamma).low if gamma is not None else scale).reshape(shape)
    middle = as_interval(mean).low.reshape(shape)
    offset = as_interval(beta).low.reshape(shape) if beta is not None else torch.zeros_like(middle)
    ends = _times(x.low - middle, scale) + offset, _times(x.high - middle, scale) + offset
    most = torch.maximum(x.low.abs(), x.high.abs()).nan_to_num(posinf=0.0)
    slack = ((most + middle.abs()) * scale.abs() + offset.abs()) * 2.0**-20
    made = make(torch.minimum(*ends) - slack, torch.maximum(*ends) + slack, x.sizes, nan=x.nan)
    return replace(made, reached=x.reached, sources=x.sources)


def _times(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).nan_to_num(0.0, math.inf, -math.inf)


def layer_norm(
    *, x: Interval, axes: tuple[int, ...] | None = None, gamma: Operand | None = None, beta: Operand | None = None,
    epsilon: float = 1e-5, outputs: Outputs,
) -> Interval:  # fmt: skip
    """Normalised over `axes`: of n values with the mean 0 and the variance 1, none is beyond sqrt(n - 1)."""
    rank = len(x.sizes)
    chosen = sorted(axis % rank for axis in (range(rank) if axes is None else axes))
    most, radius = _most(x, chosen, epsilon), _radius(x, chosen, epsilon)
    made = replace(everywhere(-most, most, outputs.sizes), nan=_is_open(x, epsilon))
    shape = tuple(x.sizes[axis] or 1 if axis in chosen else 1 for axis in range(rank))
    scale, offset = (None if each is None else as_interval(each) for each in (gamma, beta))
    if chosen == [rank - 1] and math.isfinite(radius) and all(not isinstance(each, Interval) for each in (gamma, beta)):
        made = replace(
            made,
            ball=Ball(
                radius=radius,
                scale=torch.ones((), dtype=torch.float64) if scale is None else scale.low.reshape(-1),
                offset=torch.zeros((), dtype=torch.float64) if offset is None else offset.low.reshape(-1),
            ),
        )
    return _scaled(made, scale, offset, shape)


def instance_norm(
    *, x: Interval, gamma: Operand | None = None, beta: Operand | None = None, epsilon: float = 1e-5, outputs: Outputs
) -> Interval:
    """Normalised over the spatial dimensions of each channel; gamma and beta (C)."""
    chosen = list(range(2, len(x.sizes)))
    most = _most(x, chosen, epsilon)
    made = replace(everywhere(-most, most, outputs.sizes), nan=_is_open(x, epsilon))
    scale, offset = (None if each is None else as_interval(each) for each in (gamma, beta))
    return _scaled(made, scale, offset, (1, -1, *(1,) * len(chosen)))


def _is_open(x: Interval, epsilon: float) -> bool:
    return x.nan or math.isinf(x.magnitude) or epsilon == 0


def _count(x: Interval, axes: Iterable[int]) -> float:
    sizes = [x.sizes[axis] for axis in axes]
    return math.inf if None in sizes else float(math.prod(size or 0 for size in sizes))


def _uncancelled(x: Interval, epsilon: float) -> float:
    """What rounding of the mean leaves of equal values, where their variance is zero."""
    return (
        x.magnitude * _CANCELLED / math.sqrt(epsilon) if epsilon and x.magnitude else (math.inf if x.magnitude else 0)
    )


def _most(x: Interval, axes: list[int], epsilon: float) -> float:
    count = _count(x, axes)
    spread = (x.greatest - x.least) / math.sqrt(epsilon) if epsilon else math.inf
    return min(math.sqrt(max(count - 1, 0)), spread) * (1 + 2.0**-10) + _uncancelled(x, epsilon)


def _radius(x: Interval, axes: list[int], epsilon: float) -> float:
    root = math.sqrt(_count(x, axes))
    return root * (1 + 2.0**-10) + root * _uncancelled(x, epsilon)


def _scaled(made: Interval, scale: Interval | None, offset: Interval | None, shape: tuple[int, ...]) -> Interval:
    """gamma * u + beta, which lie along `shape`."""
    if scale is not None:
        most = torch.maximum(scale.low.abs(), scale.high.abs())
        most = most.reshape(shape) if most.numel() == _numel(shape) or -1 in shape else most.amax()
        reach = _times(made.high, most)
        made = replace(make(-reach, reach, made.sizes, nan=made.nan), ball=made.ball)
    if offset is not None:
        fits = offset.low.numel() == _numel(shape) or -1 in shape
        low, high = (
            (offset.low.reshape(shape), offset.high.reshape(shape)) if fits else (offset.low.amin(), offset.high.amax())
        )
        made = replace(make(made.low + low, made.high + high, made.sizes, nan=made.nan), ball=made.ball)
    return widened(made, ULP, 2.0**-30, keeps_sign=False)


def _numel(shape: tuple[int, ...]) -> int:
    return math.prod(shape)


def l2_norm(*, x: Interval, epsilon: float = 1e-6, outputs: Outputs) -> Interval:
    """x / sqrt(sum of squares over the last three axes + epsilon)."""
    nan = x.nan or math.isinf(x.magnitude) or epsilon == 0
    return everywhere(0.0 if x.least >= 0 else -1.001, 1.001, outputs.sizes, nan=nan)


def local_response_norm(
    *, x: Interval, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0, outputs: Outputs
) -> Interval:
    """x / (k + something not negative)^beta, for the usual signs."""
    del size
    if alpha < 0 or beta < 0 or k <= 0:
        return anything(outputs.sizes)
    most = x.magnitude * k**-beta * 1.001
    return everywhere(0.0 if x.least >= 0 else -most, most, outputs.sizes, nan=x.nan or math.isinf(x.magnitude))


def softmax(*, x: Interval, axis: int = -1, outputs: Outputs) -> Interval:
    """Softmax along an axis: at least e^(least - greatest) / n."""
    count, rank = x.sizes[axis] if x.sizes else 1, len(x.sizes)
    flat = reduced(x, range(rank))
    spread = flat.greatest - flat.least
    least = math.exp(-spread) / count * (1 - 2.0**-12) if count and math.isfinite(spread) and spread < 700 else 0.0
    made = everywhere(least, 1.0, outputs.sizes, nan=x.nan or x.greatest == math.inf or x.least == -math.inf)
    return replace(made, unit_axis=axis - rank if axis >= 0 else axis)


TRANSFERS = table(batch_norm, layer_norm, instance_norm, l2_norm, local_response_norm, softmax)
