"""Pooling that coremltools lacks: to a given size in three dimensions, and over windows with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

from builder.backends.coreml.lowerings.flexible_sizes import axis_size, is_open
from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Size, Var
from builder.backends.coreml.lowerings.variables import fixed_size, slice_axis, take

Sizes = Sequence[int] | int | None


def adaptive(mb: Builder, x: Var, output_size: Sizes, operator: str, dimensions: int = 3) -> Var:
    """Pool one axis after the other: every window is a box, so the mean (or maximum) of its rows is its own.

    Window i of n over an axis of length L reaches from floor(i L / n) to ceil((i + 1) L / n). The app may decide L.
    """
    reduced = getattr(mb, operator)
    sizes = [None] * dimensions if output_size is None else each_axis(output_size, dimensions)
    for axis, size in zip(range(-dimensions, 0), sizes, strict=True):
        if hasattr(size, "rank") and getattr(size, "sym_val", None) == x.shape[axis]:
            continue
        if hasattr(size, "rank"):
            raise NotImplementedError("adaptive pooling to a size that only the app decides is not converted")
        if size is None or size == x.shape[axis]:
            continue
        windows = _windows(mb, axis_size(mb, x, axis), size)
        parts = [reduced(x=slice_axis(mb, x, axis, begin, end), axes=[axis], keep_dims=True) for begin, end in windows]
        x = mb.concat(values=parts, axis=axis) if len(parts) > 1 else parts[0]
    return x


def _windows(mb: Builder, length: Size, count: int) -> list[tuple[Size, Size]]:
    if isinstance(length, int):
        return [(i * length // count, -(-(i + 1) * length // count)) for i in range(count)]
    begins = [0, *(mb.floor_div(x=mb.mul(x=length, y=i), y=count) for i in range(1, count))]
    ends = [mb.floor_div(x=mb.add(x=mb.mul(x=length, y=i), y=count - 1), y=count) for i in range(1, count)]
    return list(zip(begins, [*ends, None], strict=True))


def adaptive_avg_pool(dimensions: int, mb: Builder, x: Var, output_size: Sizes) -> Var:
    """The means over `output_size` windows of the last axes."""
    return adaptive(mb, x, output_size, "reduce_mean", dimensions)


def _is_flexible(x: Var) -> bool:
    return is_open(x.shape[2:])


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
    kernels, paddings, dilations = (each_axis(given, dimensions) for given in (kernel_size, padding, dilation))
    strides = each_axis(stride, dimensions) if stride else kernels
    for index in range(dimensions):
        axis = index - dimensions
        length = fixed_size(x, axis, "dilated max pooling")
        windows = windows_of(
            length, kernels[index], strides[index], paddings[index], dilations[index], ceil_mode=bool(ceil_mode)
        )
        places = [take(mb, x, axis, [window[place] for window in windows]) for place in range(kernels[index])]
        x = reduce(lambda a, b: mb.maximum(x=a, y=b), places)
    return x


def each_axis(given: Sizes, count: int) -> list[int]:
    """A number for each axis, of one for all or a list."""
    values = [given] if isinstance(given, int) else list(given or [])
    return values * count if len(values) == 1 else values


def windows_of(
    length: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil_mode: bool
) -> list[list[int]]:
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


def is_dilated(dilation: Sizes = 1) -> bool:
    """Whether there are gaps between the elements of a window."""
    return any(gap != 1 for gap in ([dilation] if isinstance(dilation, int) else dilation or []))


POOLING = (
    *(
        Lowering(operator=name, lower=partial(adaptive_avg_pool, 3))
        for name in ("adaptive_avg_pool3d", "_adaptive_avg_pool3d")
    ),
    *(
        Lowering(
            operator=name,
            lower=partial(adaptive_avg_pool, dimensions),
            upstream_gap="sizes that only the app decides",
            applies=_is_flexible,
        )
        for name, dimensions in (("adaptive_avg_pool1d", 1), ("adaptive_avg_pool2d", 2), ("_adaptive_avg_pool2d", 2))
    ),
    *(
        Lowering(
            operator=f"max_pool{dimensions}d",
            lower=partial(dilated_max_pool, dimensions),
            upstream_gap="windows with gaps (dilation)",
            applies=is_dilated,
        )
        for dimensions in (1, 2, 3)
    ),
)
