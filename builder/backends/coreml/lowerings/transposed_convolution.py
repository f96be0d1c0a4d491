"""Transposed convolutions with output padding, which coremltools has in two dimensions and within the padding only."""

from __future__ import annotations

from collections.abc import Sequence

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var


def transposed_convolution(
    mb: Builder,
    x: Var,
    weight: Var,
    bias: Var | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    benchmark: bool = False,
    deterministic: bool = False,
    cudnn_enabled: bool = False,
    allow_tf32: bool = False,
) -> Var:
    """All that the convolution (N, C, …) reaches, from `padding` on; zeros behind it, before the bias.

    Torch cuts `padding` off both ends and puts `output_padding` behind: `output_padding - padding` zeros where that is
    more, else so much less is cut off.
    """
    del transposed, benchmark, deterministic, cudnn_enabled, allow_tf32
    whole = mb.conv_transpose(
        x=x, weight=weight, strides=list(stride), dilations=list(dilation), groups=groups, pad_type="valid"
    )
    behind = [more - pad for pad, more in zip(padding, output_padding, strict=True)]
    if any(more > 0 for more in behind):
        pads = [0, 0, 0, 0, *(number for more in behind for number in (0, max(0, more)))]
        whole = mb.pad(x=whole, pad=pads, mode="constant", constant_val=0.0)
    part = mb.slice_by_index(
        x=whole,
        begin=[0, 0, *padding],
        end=[0, 0, *(min(0, more) for more in behind)],
        begin_mask=[True, True, *[False] * len(behind)],
        end_mask=[True, True, *(more >= 0 for more in behind)],
    )
    return part if bias is None else mb.add(x=part, y=mb.reshape(x=bias, shape=[1, -1, *[1] * len(behind)]))


def _pads_too_much(x: Var, output_padding: Sequence[int], transposed: bool, padding: Sequence[int] = ()) -> bool:
    """Whether coremltools refuses: padding of volumes, and more behind than is cut off."""
    more = any(added > cut for added, cut in zip(output_padding, padding, strict=True))
    return bool(transposed and any(output_padding) and (x.rank == 5 or more))


def conv_transpose(
    mb: Builder,
    x: Var,
    weight: Var,
    bias: Var | None = None,
    stride: Sequence[int] | int = 1,
    padding: Sequence[int] | int = 0,
    output_padding: Sequence[int] | int = 0,
    groups: int = 1,
    dilation: Sequence[int] | int = 1,
) -> Var:
    """The same as an exported program has it."""
    count = x.rank - 2
    step, cut, spread, more = (_each(given, count) for given in (stride, padding, dilation, output_padding))
    return transposed_convolution(mb, x, weight, bias, step, cut, spread, True, more, groups)


def _each(given: Sequence[int] | int, count: int) -> list[int]:
    values = [given] if isinstance(given, int) else list(given)
    return values * count if len(values) == 1 else values


def _is_padded(x: Var, output_padding: Sequence[int] | int = 0, padding: Sequence[int] | int = 0) -> bool:
    count = x.rank - 2
    return _pads_too_much(x, _each(output_padding, count), True, _each(padding, count))


_PADDING = "output padding of volumes, and more of it than padding"

TRANSPOSED_CONVOLUTION = (
    *(
        Lowering(operator=name, lower=conv_transpose, upstream_gap=_PADDING, applies=_is_padded)
        for name in ("conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input")
    ),
    *(
        Lowering(operator=name, lower=transposed_convolution, upstream_gap=_PADDING, applies=_pads_too_much)
        for name in ("convolution", "_convolution")
    ),
)
