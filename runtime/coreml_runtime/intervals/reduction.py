"""Bounds of reductions over axes, running sums and pooling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from coreml_runtime.intervals.context import Operand, Outputs, table
from coreml_runtime.intervals.interval import (
    Interval,
    Measure,
    anything,
    as_interval,
    everywhere,
    make,
    reduced,
    widened,
)
from coreml_runtime.intervals.unary import abs_, log, sqrt, square

_HALF_ULP = 2.0**-24
_MOST_FACTORS = 64


def _axes(x: Interval, axes: Sequence[int] | None) -> list[int]:
    rank = len(x.sizes)
    return list(range(rank)) if axes is None else sorted({axis % rank for axis in axes} if rank else set())


def _count(x: Interval, axes: Sequence[int]) -> float:
    sizes = [x.sizes[axis] for axis in axes]
    return math.inf if None in sizes else float(math.prod(size or 0 for size in sizes))


def _without(value: Tensor, axes: Sequence[int], keep_dims: bool) -> Tensor:
    """A tensor whose reduced axes have the size 1, without them unless they are kept."""
    if keep_dims or not axes:
        return value
    return value.reshape([size for axis, size in enumerate(value.shape) if axis not in axes])


def _made(
    x: Interval, low: Tensor, high: Tensor, axes: Sequence[int], keep_dims: bool, outputs: Outputs, *, nan: bool = False
) -> Interval:
    made = make(_without(low, axes, keep_dims), _without(high, axes, keep_dims), outputs.sizes, nan=x.nan or nan)
    return replace(made, reached=x.reached and x.sources is not None)


def _summed(bound: Tensor, x: Interval, axes: Sequence[int]) -> Tensor:
    """The sum of a bound along axes of known size."""
    for axis in axes:
        size = x.sizes[axis] or 0
        bound = bound.sum(axis, keepdim=True) if bound.shape[axis] == size != 1 else bound * size
    return bound


def reduce_sum(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Sum."""
    chosen = _axes(x, axes)
    count = _count(x, chosen)
    if math.isinf(count):
        ends = reduced(x, chosen)
        low = torch.where(ends.low < 0, -math.inf, ends.low)
        high = torch.where(ends.high > 0, math.inf, ends.high)
        return replace(_made(x, low, high, chosen, keep_dims, outputs), reached=False)
    most = _summed(torch.maximum(x.low.abs(), x.high.abs()).nan_to_num(posinf=0.0), x, chosen)
    slack = torch.zeros_like(most) if outputs.is_integer else most * (count + 16) * _HALF_ULP
    low, high = _summed(x.low, x, chosen), _summed(x.high, x, chosen)
    low = torch.where(low >= 0, (low - slack).clamp(min=0.0), low - slack)
    high = torch.where(high <= 0, (high + slack).clamp(max=0.0), high + slack)
    return _made(x, low, high, chosen, keep_dims, outputs, nan=math.isinf(x.magnitude))


def reduce_mean(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Mean; of integers it is cut towards zero."""
    chosen = _axes(x, axes)
    ends = reduced(x, chosen)
    slack = 0.0 if outputs.is_integer else (min(_count(x, chosen), 2.0**16) + 16) * _HALF_ULP
    most = torch.maximum(ends.low.abs(), ends.high.abs()).nan_to_num(posinf=0.0) * slack
    low = torch.where(ends.low >= 0, (ends.low - most).clamp(min=0.0), ends.low - most)
    high = torch.where(ends.high <= 0, (ends.high + most).clamp(max=0.0), ends.high + most)
    made = _made(x, low, high, chosen, keep_dims, outputs, nan=math.isinf(x.magnitude))
    is_square = x.measure is not None and x.measure.kind == "square" and chosen == [len(x.sizes) - 1] and keep_dims
    if is_square and x.measure is not None:
        made = replace(made, measure=Measure(kind="mean", of=x.measure.of))
    return replace(made, low=made.low.trunc(), high=made.high.trunc()) if outputs.is_integer else made


def reduce_max(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Largest value."""
    chosen = _axes(x, axes)
    low, high = (bound.amax(chosen, keepdim=True) if chosen else bound for bound in (x.low, x.high))
    return _made(x, low, high, chosen, keep_dims, outputs)


def reduce_min(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Smallest value."""
    chosen = _axes(x, axes)
    low, high = (bound.amin(chosen, keepdim=True) if chosen else bound for bound in (x.low, x.high))
    return _made(x, low, high, chosen, keep_dims, outputs)


def reduce_sum_square(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Sum of squares."""
    return reduce_sum(x=square(x=x), axes=axes, keep_dims=keep_dims, outputs=outputs)


def reduce_l1_norm(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Sum of magnitudes."""
    return reduce_sum(x=abs_(x=x), axes=axes, keep_dims=keep_dims, outputs=outputs)


def reduce_l2_norm(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Square root of the sum of squares."""
    return sqrt(x=reduce_sum_square(x=x, axes=axes, keep_dims=keep_dims, outputs=outputs))


def reduce_log_sum(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Logarithm of the sum."""
    return log(x=reduce_sum(x=x, axes=axes, keep_dims=keep_dims, outputs=outputs), epsilon=0.0)


def reduce_log_sum_exp(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Logarithm of the sum of e^x: the largest value, and at most log(n) more."""
    chosen = _axes(x, axes)
    count = _count(x, chosen)
    ends = reduced(x, chosen)
    low = ends.low + (math.log(count) if 0 < count < math.inf else 0.0)
    made = _made(x, low, ends.high + (math.log(count) if count else 0.0), chosen, keep_dims, outputs)
    return replace(widened(made, 2.0**-18, 1e-5, keeps_sign=False), nan=made.nan or math.isinf(x.magnitude))


def reduce_prod(
    *, x: Interval, axes: Sequence[int] | None = None, keep_dims: bool = False, outputs: Outputs
) -> Interval:
    """Product of a few factors."""
    del keep_dims
    count = _count(x, _axes(x, axes))
    if count > _MOST_FACTORS:
        return anything(outputs.sizes)
    powers = [0.0] if x.magnitude == 0 else [x.magnitude**count * (1 + count * 2.0**-20)]
    low = min(x.least**count, powers[0]) * (1 - count * 2.0**-20) if x.least >= 0 else -powers[0]
    return everywhere(low, powers[0], outputs.sizes, nan=x.nan or math.isinf(x.magnitude))


def reduce_argmax(*, x: Interval, axis: int = -1, outputs: Outputs, **_: object) -> Interval:
    """An index."""
    return indices(x.sizes[axis], outputs.sizes)


def indices(size: int | None, sizes: tuple[int | None, ...]) -> Interval:
    """Places along an axis."""
    return everywhere(0, math.inf if size is None else max(size - 1, 0), sizes)


def cumsum(*, x: Interval, axis: int = 0, exclusive: bool = False, reverse: bool = False, outputs: Outputs) -> Interval:
    """Sums of one value up to all along the axis."""
    del reverse
    ends, count = reduced(x, [axis % len(x.sizes)]), x.sizes[axis]
    if count is None:
        low = torch.where(ends.low < 0, -math.inf, ends.low)
        high = torch.where(ends.high > 0, math.inf, ends.high)
    else:
        slack = 1 + (0.0 if outputs.is_integer else (count + 16) * _HALF_ULP)
        low = torch.minimum(ends.low, ends.low * count * slack) - ends.low.abs() * (slack - 1) * count
        high = torch.maximum(ends.high, ends.high * count * slack) + ends.high.abs() * (slack - 1) * count
        low = torch.where(ends.low >= 0, low.clamp(min=0.0), low)
    if exclusive:
        low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    made = make(low, high, outputs.sizes, nan=x.nan or math.isinf(x.magnitude))
    return replace(made, reached=x.reached and x.sources is not None and count is not None)


def max_pool(*, x: Interval, outputs: Outputs, **_: object) -> Interval:
    """The largest value of each window; padding never wins."""
    ends = reduced(x, range(2, len(x.sizes)))
    return replace(make(ends.low, ends.high, outputs.sizes, nan=x.nan), reached=x.reached)


def avg_pool(*, x: Interval, pad_type: str, pad: Sequence[int] = (), outputs: Outputs, **_: object) -> Interval:
    """The mean of each window, perhaps with zeros around the tensor."""
    ends = reduced(x, range(2, len(x.sizes)))
    low, high = ends.low, ends.high
    if pad_type in ("same", "same_lower") or any(pad):
        low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    made = replace(make(low, high, outputs.sizes, nan=x.nan or math.isinf(x.magnitude)), reached=x.reached)
    return widened(made, 2.0**-12)


def l2_pool(*, x: Interval, kernel_sizes: Sequence[int], outputs: Outputs, **_: object) -> Interval:
    """The square root of the sum of squares of each window."""
    most = x.magnitude * math.sqrt(math.prod(kernel_sizes)) * (1 + 2.0**-12)
    return everywhere(0.0, most, outputs.sizes, nan=x.nan or math.isinf(x.magnitude))


def fill(*, value: Operand | None = None, outputs: Outputs, **_: object) -> Interval:
    """One value everywhere."""
    if value is None:
        return everywhere(0, 0, outputs.sizes)
    given = as_interval(value)
    return everywhere(given.least, given.greatest, outputs.sizes, nan=given.nan)


TRANSFERS = {
    **table(
        reduce_sum, reduce_mean, reduce_max, reduce_min, reduce_sum_square, reduce_l1_norm, reduce_l2_norm,
        reduce_log_sum, reduce_log_sum_exp, reduce_prod, reduce_argmax, cumsum, max_pool, avg_pool, l2_pool, fill,
    ),
    "reduce_argmin": reduce_argmax,
    "fill_like": fill,
}  # fmt: skip
