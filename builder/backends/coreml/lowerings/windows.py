"""Windows taken from pictures and put back: im2col and col2im in every case."""

from __future__ import annotations

from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_shape, is_complex


def col2im(
    mb: Builder,
    x: Var,
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Var:
    """Windows (N, C * kh * kw, L) added up where they overlap: (N, C, H, W).

    That is a transposed convolution of each channel with kh * kw filters, each of which puts its input in one place.
    """
    import numpy as np

    kernel_height, kernel_width = kernel_size
    taps = kernel_height * kernel_width
    batch, rows, _ = (sizes := fixed_shape(x if x.rank == 3 else mb.expand_dims(x=x, axes=[0]), "col2im"))
    channels = rows // taps
    counts = [
        (size + 2 * pad - gap * (kernel - 1) - 1) // step + 1
        for size, pad, gap, kernel, step in zip(output_size, padding, dilation, kernel_size, stride, strict=True)
    ]
    del sizes
    windows = mb.reshape(x=x, shape=[batch * channels, taps, *counts])
    filters = np.eye(taps, dtype=np.float32).reshape(taps, 1, kernel_height, kernel_width)
    spread = mb.conv_transpose(
        x=windows, weight=filters, strides=list(stride), pad_type="valid", dilations=list(dilation)
    )
    wanted = [size + 2 * pad for size, pad in zip(output_size, padding, strict=True)]
    have = [int(size) for size in spread.shape[-2:]]
    missing = [max(want - got, 0) for want, got in zip(wanted, have, strict=True)]
    if any(missing):  # what no window covers
        spread = mb.pad(x=spread, pad=[0, 0, 0, 0, 0, missing[0], 0, missing[1]], mode="constant", constant_val=0.0)
    picture = mb.slice_by_size(x=spread, begin=[0, 0, *padding], size=[batch * channels, 1, *output_size])
    shape = [batch, channels, *output_size] if x.rank == 3 else [channels, *output_size]
    return mb.reshape(x=picture, shape=shape)


def _overlaps(
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> bool:
    """Whether coremltools refuses: windows that overlap, have gaps, or do not fill the picture."""
    return (
        any(step < kernel for step, kernel in zip(stride, kernel_size, strict=True))
        or any(gap != 1 for gap in dilation)
        or any(step != kernel for step, kernel in zip(stride, kernel_size, strict=True))
        or any((size + 2 * pad) % step for size, pad, step in zip(output_size, padding, stride, strict=True))
    )


def im2col(
    mb: Builder,
    x: Var,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Var:
    """Windows (C, kh, kw) of a picture without a batch, each a column: (C * kh * kw, L); of (N, C, H, W) per channel.

    A convolution of each channel with kh * kw filters, each of which picks one place.
    """
    import numpy as np

    sizes = fixed_shape(x, "im2col")
    batch, channels = (sizes[0] if x.rank == 4 else 1), sizes[-3]
    taps = kernel_size[0] * kernel_size[1]
    filters = np.eye(taps, dtype=np.float32).reshape(taps, 1, *kernel_size)
    columns = mb.conv(
        x=mb.reshape(x=x, shape=[batch * channels, 1, *sizes[-2:]]),
        weight=filters,
        strides=list(stride),
        pad_type="custom",
        pad=[padding[0], padding[0], padding[1], padding[1]],
        dilations=list(dilation),
    )
    return mb.reshape(x=columns, shape=[*([batch] if x.rank == 4 else []), channels * taps, -1])


def _has_no_batch(x: Var) -> bool:
    return x.rank != 4 and not is_complex(x)


WINDOWS = (
    Lowering(operator="col2im", lower=col2im, upstream_gap="windows that overlap or have gaps", applies=_overlaps),
    Lowering(operator="im2col", lower=im2col, upstream_gap="pictures without a batch", applies=_has_no_batch),
)
