"""Transposed convolutions of volumes with output padding, which coremltools has for pictures and sequences only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.backends.coreml.lowerings.lowering import Builder, Lowering, Var
from builder.backends.coreml.lowerings.variables import fixed_size


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
    """All that the convolution (N, C, D, H, W) reaches, from `padding` on; zeros behind it, before the bias."""
    del transposed, benchmark, deterministic, cudnn_enabled, allow_tf32
    whole = mb.conv_transpose(
        x=x, weight=weight, strides=list(stride), dilations=list(dilation), groups=groups, pad_type="valid"
    )
    begins, ends, behind = [0, 0], [0, 0], [0, 0]
    for axis, (step, pad, spread, more) in enumerate(zip(stride, padding, dilation, output_padding, strict=True), 2):
        reach = (fixed_size(x, axis, "a transposed convolution") - 1) * step + spread * (weight.shape[axis] - 1) + 1
        begins.append(pad)
        ends.append(reach - pad + more)
        behind.append(max(0, more - pad))
    if any(behind):
        pads = [number for amount in behind for number in (0, amount)]
        whole = mb.pad(x=whole, pad=pads, mode="constant", constant_val=0.0)
    mask = [True, True, False, False, False]
    part = mb.slice_by_index(x=whole, begin=begins, end=ends, begin_mask=mask, end_mask=mask)
    return part if bias is None else mb.add(x=part, y=mb.reshape(x=bias, shape=[1, -1, 1, 1, 1]))


def _pads_a_volume(x: Var, output_padding: Any, transposed: bool) -> bool:
    return bool(transposed and x.rank == 5 and any(output_padding))


def conv_transpose3d(
    mb: Builder,
    x: Var,
    weight: Var,
    bias: Var | None = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    output_padding: Sequence[int] = (0, 0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1, 1),
) -> Var:
    """The same as an exported program has it."""
    return transposed_convolution(mb, x, weight, bias, stride, padding, dilation, True, output_padding, groups)


def _is_padded(output_padding: Any = ()) -> bool:
    return any(output_padding)


TRANSPOSED_CONVOLUTION = (
    Lowering(
        operator="conv_transpose3d.input",
        lower=conv_transpose3d,
        lacks="output padding of volumes",
        applies=_is_padded,
    ),
    *(
        Lowering(operator=name, lower=transposed_convolution, lacks="output padding of volumes", applies=_pads_a_volume)
        for name in ("convolution", "_convolution")
    ),
)
