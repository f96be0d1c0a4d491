"""Average pooling with a divisor of its own, and of volumes whose last windows reach beyond the padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial, reduce

from builder.backends.coreml.lowerings.flexible_sizes import is_open
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.pooling import Sizes, each_axis
from builder.backends.coreml.lowerings.variables import as_float, fixed_size, promoted, take


def avg_pool(
    dimensions: int,
    mb: Builder,
    x: Var,
    kernel_size: Sizes,
    stride: Sizes = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Var:
    """The means over windows of the last axes, one axis after the other, times what the true divisor asks for.

    torch counts the places of a window up to the end of the padding, or those within the tensor alone (ATen's
    native/cpu/AvgPoolKernel.cpp).
    """
    import numpy as np

    kernels, paddings = each_axis(kernel_size, dimensions), each_axis(padding, dimensions)
    strides = each_axis(stride, dimensions) if stride else kernels
    if divisor_override is not None and not ceil_mode and is_open(list(x.shape[-dimensions:])):
        amounts = [pad for pad in paddings for _ in range(2)]
        means = mb.avg_pool(
            x=as_float(x), kernel_sizes=kernels, strides=strides, pad_type="custom", pad=amounts,
            exclude_padding_from_average=False,
        )  # fmt: skip
        return mb.mul(x=means, y=math.prod(kernels) / divisor_override)
    counts = np.ones((), dtype=np.float64)
    x = as_float(x)
    for axis, (kernel, step, pad) in enumerate(zip(kernels, strides, paddings, strict=True)):
        length = fixed_size(x, axis - dimensions, "average pooling")
        starts = _starts(length, kernel, step, pad, ceil_mode=bool(ceil_mode))
        x = _means(mb, x, axis - dimensions, starts, kernel)
        ends = [min(start + kernel, length + pad) for start in starts]
        within = [min(end, length) - max(start, 0) for start, end in zip(starts, ends, strict=True)]
        whole = [end - start for start, end in zip(starts, ends, strict=True)]
        counts = np.multiply.outer(counts, np.array(whole if count_include_pad else within, dtype=np.float64))
    if divisor_override is not None:
        counts = np.full_like(counts, divisor_override)
    factors = (math.prod(kernels) / counts).astype(np.float32)
    x, scale = promoted(x, factors if (factors != factors.flat[0]).any() else factors.flat[0])
    return mb.mul(x=x, y=scale)


def _starts(length: int, kernel: int, stride: int, padding: int, *, ceil_mode: bool) -> list[int]:
    count = (length + 2 * padding - kernel + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= length + padding:
        count -= 1  # a last window would begin in the padding
    return [i * stride - padding for i in range(count)]


def _means(mb: Builder, x: Var, axis: int, starts: Sequence[int], kernel: int) -> Var:
    """Sums over windows of one axis, divided by the size of a window; zeros stand outside.

    Divided first by a power of two that is exact, since a sum of what half precision just holds is infinite.
    """
    import numpy as np

    length = fixed_size(x, axis, "average pooling")
    before, after = max(-starts[0], 0), max(starts[-1] + kernel - length, 0)
    if before or after:
        sides = [[int(size) if i != x.rank + axis else wide for i, size in enumerate(x.shape)]
                 for wide in (before, after)]  # fmt: skip
        zeros = [np.zeros(side, dtype=np.float32) for side in sides]
        parts = [zeros[0], x, zeros[1]] if before and after else [zeros[0], x] if before else [x, zeros[1]]
        x = mb.concat(values=promoted(*parts), axis=axis)
    halved = 2.0 ** -math.ceil(math.log2(kernel))
    x = mb.mul(x=x, y=halved)
    places = [take(mb, x, axis, [start + before + k for start in starts]) for k in range(kernel)]
    return mb.mul(x=reduce(lambda a, b: mb.add(x=a, y=b), places), y=1 / kernel / halved)


def _is_divided(divisor_override: int | None = None) -> bool:
    return divisor_override is not None


def _is_divided_or_whole(
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None
) -> bool:
    return divisor_override is not None or bool(ceil_mode and count_include_pad)


MEAN_POOLING = (
    Lowering(operator="avg_pool2d", lower=partial(avg_pool, 2), upstream_gap="a divisor", applies=_is_divided),
    Lowering(
        operator="avg_pool3d",
        lower=partial(avg_pool, 3),
        upstream_gap="a divisor, and padding that counts beyond the end",
        applies=_is_divided_or_whole,
    ),
)
