"""Pooling whose windows differ in size, or lie in three dimensions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import SymInt, Tensor, ops
from torch._decomp import decomposition_table
from torch.nn.functional import max_pool2d, pad

if TYPE_CHECKING:
    from torch._ops import OpOverload


def _windows(size: int, count: int) -> list[tuple[int, int]]:
    """Start and length of each window of an adaptive pooling (aten/native/AdaptivePooling.h)."""
    return [(start := place * size // count, -(-((place + 1) * size) // count) - start) for place in range(count)]


def adaptive_avg_pool2d(x: Tensor, output_size: Sequence[int]) -> Any:
    """Where windows differ, which coreai-torch refuses (an input smaller than the output): torch's, by gathering.

    Where the app chooses a size, axis by axis, by slices between places that integers compute.
    """
    if any(isinstance(size, SymInt) for size in x.shape[-2:]):
        return adaptive_avg_pool(x, output_size)
    if all(size % count == 0 for size, count in zip(x.shape[-2:], output_size, strict=True)):
        return NotImplemented
    return decomposition_table[ops.aten._adaptive_avg_pool2d.default](x, output_size)


def avg_pool(
    plain: OpOverload,
    axes: int,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """Where windows are cut off, or divided by another number than their size: sums over what they are divided by.

    coreai-torch divides by the whole window whatever is said, and has no windows that the end cuts off. The axes may be
    as long as the app chooses: their windows are counted once they are there.
    """
    kernel, padding = _for_each(kernel_size, axes), _for_each(padding, axes)
    if not (ceil_mode or divisor_override or (any(padding) and not count_include_pad)):
        return NotImplemented
    stride = _for_each(stride, axes) if stride else kernel
    behind = [before + (step - 1 if ceil_mode else 0) for before, step in zip(padding, stride, strict=True)]
    filled = pad(x, [amount for pair in zip(reversed(padding), reversed(behind), strict=True) for amount in pair])
    sums = plain(filled, list(kernel), list(stride)) * math.prod(kernel)
    for axis, window, step, before in zip(range(-axes, 0), kernel, stride, padding, strict=True):
        if ceil_mode and before + step > window:  # or none can begin in the padding behind (aten/native/Pool.h)
            most = (x.shape[axis] + before - 1) // step + 1
            sums = sums.narrow(axis, 0, torch.sym_min(sums.shape[axis], most))  # type: ignore[no-untyped-call]  # torch has none
    if divisor_override is not None:
        return sums / divisor_override
    divisor = torch.ones(())
    for axis, window, step, before in zip(range(-axes, 0), kernel, stride, padding, strict=True):
        size = x.shape[axis]
        starts = torch.arange(sums.shape[axis]) * step - before
        ends = (starts + window).clamp(max=size + before)
        if not count_include_pad:
            starts, ends = starts.clamp(min=0), ends.clamp(max=size)
        divisor = divisor * (ends - starts).to(x.dtype).reshape([-1] + [1] * (-1 - axis))
    return sums / divisor


def _for_each(given: Sequence[int], axes: int) -> tuple[int, ...]:
    return tuple(given) * axes if len(given) == 1 else tuple(given)


def adaptive_avg_pool(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """Means of windows, axis by axis: a mean of means, since windows are products of intervals."""
    for axis, count in zip(range(-len(output_size), 0), output_size, strict=True):
        parts = [
            x.narrow(axis, start, length).mean(axis, keepdim=True) for start, length in _windows(x.shape[axis], count)
        ]
        x = torch.cat(parts, axis)
    return x


def adaptive_max_pool2d(x: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Maxima of windows, axis by axis, and the place of each in its picture."""
    height, width = x.shape[-2:]
    rows, columns = _windows(height, output_size[0]), _windows(width, output_size[1])
    values, places = [], []
    for (top, tall), (left, wide) in itertools.product(rows, columns):
        window = x.narrow(-2, top, tall).narrow(-1, left, wide).flatten(-2)
        found = window.argmax(-1)
        values.append(window.amax(-1))
        places.append((found // wide + top) * width + found % wide + left)
    shape = [*x.shape[:-2], *output_size]
    return torch.stack(values, -1).reshape(shape), torch.stack(places, -1).reshape(shape)


def max_pool3d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Maxima of the last two axes, then of the one before: windows are products of intervals. No indices."""
    kernel, padding, dilation = _three(kernel_size), _three(padding), _three(dilation)
    stride = _three(stride) if stride else kernel
    lead, (depth, height, width) = list(x.shape[:-3]), x.shape[-3:]
    flat = x.reshape(1, -1, height, width)
    flat = max_pool2d(flat, kernel[1:], stride[1:], padding[1:], dilation[1:], ceil_mode)
    tall, wide = flat.shape[-2:]
    deep = flat.reshape(1, -1, depth, tall * wide)
    deep = max_pool2d(deep, (kernel[0], 1), (stride[0], 1), (padding[0], 0), (dilation[0], 1), ceil_mode)
    found = deep.reshape([*lead, deep.shape[-2], tall, wide])
    return found, torch.zeros_like(found, dtype=torch.int64)


def _three(given: Sequence[int]) -> tuple[int, ...]:
    return tuple(given) * 3 if len(given) == 1 else tuple(given)


OURS: dict[OpOverload, Callable[..., object]] = {
    ops.aten._adaptive_avg_pool2d.default: adaptive_avg_pool2d,
    ops.aten._adaptive_avg_pool3d.default: adaptive_avg_pool,
    ops.aten.adaptive_max_pool2d.default: adaptive_max_pool2d,
    **{
        each: partial(avg_pool, each, axes)
        for axes, each in enumerate((ops.aten.avg_pool2d.default, ops.aten.avg_pool3d.default), start=2)
    },
    ops.aten.max_pool3d_with_indices.default: max_pool3d,
}
