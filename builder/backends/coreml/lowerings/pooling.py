"""Pooling that coremltools lacks: to a given size in three dimensions, and over windows with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_size, slice_axis, take

Sizes = Sequence[int] | int | None


def _adaptive(mb: Builder, x: Var, output_size: Sizes, operator: str) -> Var:
    """Pool one axis after the other: every window is a box, so the mean (or maximum) of its rows is its own.

    Window i of n over an axis of length L reaches from floor(i L / n) to ceil((i + 1) L / n).
    """
    reduced = getattr(mb, operator)
    sizes = [output_size] * 3 if isinstance(output_size, int) or output_size is None else list(output_size)
    for axis, size in zip((-3, -2, -1), sizes, strict=True):
        length = fixed_size(x, axis, "adaptive pooling")
        if size in (None, length):
            continue
        windows = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        parts = [reduced(x=slice_axis(mb, x, axis, begin, end), axes=[axis], keep_dims=True) for begin, end in windows]
        x = mb.concat(values=parts, axis=axis) if len(parts) > 1 else parts[0]
    return x


def adaptive_avg_pool3d(mb: Builder, x: Var, output_size: Sizes) -> Var:
    """The means over `output_size` windows of (…, D, H, W)."""
    return _adaptive(mb, x, output_size, "reduce_mean")


def adaptive_max_pool3d(mb: Builder, x: Var, output_size: Sizes) -> tuple[Var, ...]:
    """The maxima over `output_size` windows of (…, D, H, W); not where they were."""
    return (_adaptive(mb, x, output_size, "reduce_max"),)


def dilated_max_pool(
    dimensions: int,
    mb: Builder,
    x: Var,
    kernel_size: Sizes,
    stride: Sizes = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> Var:
    """Max pooling with gaps between the elements of a window, one axis after the other.

    A place of the window that lies in the padding is taken by another of the same window: the maximum is the same.
    """
    kernels, paddings, dilations = (_each(given, dimensions) for given in (kernel_size, padding, dilation))
    strides = _each(stride, dimensions) if stride else kernels
    for index in range(dimensions):
        axis = index - dimensions
        length = fixed_size(x, axis, "dilated max pooling")
        windows = _windows(
            length, kernels[index], strides[index], paddings[index], dilations[index], ceil_mode=bool(ceil_mode)
        )
        places = [take(mb, x, axis, [window[place] for window in windows]) for place in range(kernels[index])]
        x = reduce(lambda a, b: mb.maximum(x=a, y=b), places)
    return x


def _each(given: Sizes, count: int) -> list[int]:
    values = [given] if isinstance(given, int) else list(given or [])
    return values * count if len(values) == 1 else values


def _windows(length: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil_mode: bool) -> list[list[int]]:
    """For each window the indices of its places within the axis, as torch counts windows."""
    span = dilation * (kernel - 1) + 1
    free = length + 2 * padding - span
    count = (free + (stride - 1 if ceil_mode else 0)) // stride + 1
    if ceil_mode and (count - 1) * stride >= length + padding:
        count -= 1  # a last window would begin in the padding
    windows = []
    for start in range(-padding, -padding + count * stride, stride):
        inside = [i for i in range(start, start + span, dilation) if 0 <= i < length]
        windows.append([i if 0 <= i < length else inside[0] for i in range(start, start + span, dilation)])
    return windows


def _is_dilated(dilation: Sizes = 1) -> bool:
    return any(gap != 1 for gap in ([dilation] if isinstance(dilation, int) else dilation or []))


def dilated_max_pool_with_indices(
    dimensions: int,
    mb: Builder,
    x: Var,
    kernel_size: Sizes,
    stride: Sizes = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Var, ...]:
    """The same for those who do not ask where the maxima were."""
    return (dilated_max_pool(dimensions, mb, x, kernel_size, stride, padding, dilation, ceil_mode),)


POOLING = (
    *(Lowering(operator=name, lower=adaptive_avg_pool3d) for name in ("adaptive_avg_pool3d", "_adaptive_avg_pool3d")),
    Lowering(operator="adaptive_max_pool3d", lower=adaptive_max_pool3d),
    *(
        Lowering(
            operator=f"max_pool{dimensions}d{variant}",
            lower=partial(lower, dimensions),
            upstream_gap="windows with gaps (dilation)",
            applies=_is_dilated,
        )
        for dimensions in (1, 2, 3)
        for variant, lower in (("", dilated_max_pool), ("_with_indices", dilated_max_pool_with_indices))
    ),
)
