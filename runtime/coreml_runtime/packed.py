"""Operators on weights in the form that is fastest: what serves where, how a weight is brought to it, and the kernels.

Convolutions compute in channels-last memory, where oneDNN neither packs nor unpacks what they read and write. Operators
between them keep that layout, so only the first convolution of a region brings its input to it. Measured with torch
2.13 on one thread of an AVX-512 processor, in microseconds, NCHW against channels-last with packed weights:
1 x 1 of 16 to 96 channels at 112 x 112: 1000, 660; 3 x 3 depthwise of 144 at 56 x 56: 413, 136; 3 x 3 of 256 at
14 x 14: 2216, 2107. x86 alone packs (`prepack.available`); other processors take the plain kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.padding import Pads, is_symmetric, spatial_pads
from coreml_runtime.ops.table import Kernel, Value, fresh

Reorder = Callable[[Tensor], Tensor]
"""(weight in float32) -> the same weight in the form that is computed on."""
Prepared = tuple[Kernel, Reorder]

ACTIVATIONS = {"silu": "swish", "sigmoid": "sigmoid", "tanh": "tanh"}
"""MIL's name of an activation -> oneDNN's, for the argument `activation` of `conv` and `linear`.

relu and clip are missing: oneDNN makes NaN a number there, which would hide that a model computes none. So is gelu, of
which oneDNN makes NaN for infinity.
"""
WITH_ACTIVATION = ("linear", "pointwise", "conv")
"""The forms whose kernels take it."""

_SMALL_PRODUCT = 5 << 19
"""Multiplications up to which MKL is as fast as oneDNN, whose call costs 15 us (a convolution's 25) and MKL's 3."""
_SMALLEST = 1 << 11
"""Elements below which the weight of a linear layer is left as it is, for the same reason."""


def _prepare_linear(weight: torch.Size, x: tuple[int, ...], arguments: Mapping[str, Value]) -> Prepared | None:
    rows = torch.Size(x[:-1]).numel()
    if rows == 0 or len(weight) != 2 or x[-1] != weight[1] or weight.numel() < _SMALLEST:
        return None
    return (
        partial(_linear, bias=arguments.get("bias")),
        lambda original: torch.ops.mkldnn._reorder_linear_weight(original, rows),
    )


@fresh
def _linear(*, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, activation, [], "")
    return result


def _geometry(
    weight: torch.Size, x: tuple[int, ...], arguments: Mapping[str, Value]
) -> tuple[list[int], list[int], int, Pads] | None:
    """Strides, dilations, groups and padding of a convolution over two dimensions; None if the shapes do not fit."""
    if len(x) != 4 or len(weight) != 4 or 0 in x:
        return None
    strides = list(arguments.get("strides") or (1, 1))
    dilations = list(arguments.get("dilations") or (1, 1))
    groups = arguments.get("groups", 1)
    if x[1] != weight[1] * groups or weight[0] % groups:
        return None
    pad_type, pad = arguments.get("pad_type", "valid"), arguments.get("pad", ())
    return strides, dilations, groups, spatial_pads(pad_type, pad, x[2:], weight[2:], strides, dilations)


def _prepare_pointwise(weight: torch.Size, x: tuple[int, ...], arguments: Mapping[str, Value]) -> Prepared | None:
    """A convolution of one pixel as oneDNN's product over the channels, which come last."""
    if not _is_pointwise(weight, x, arguments):
        return None
    rows = x[0] * x[2] * x[3]
    return (
        partial(_pointwise, bias=arguments.get("bias")),
        lambda original: torch.ops.mkldnn._reorder_linear_weight(original.flatten(1), rows),
    )


def _prepare_small(weight: torch.Size, x: tuple[int, ...], arguments: Mapping[str, Value]) -> Prepared | None:
    """A small convolution of one pixel as MKL's product over the channels, which come last."""
    if not _is_pointwise(weight, x, arguments) or x[0] * x[2] * x[3] * weight.numel() > _SMALL_PRODUCT:
        return None
    return partial(_small, bias=arguments.get("bias")), lambda original: original.flatten(1).clone()


def _is_pointwise(weight: torch.Size, x: tuple[int, ...], arguments: Mapping[str, object]) -> bool:
    geometry = _geometry(weight, x, arguments)
    if geometry is None or weight[2:] != (1, 1):
        return False
    strides, _, groups, pads = geometry
    return strides == [1, 1] and groups == 1 and not any(map(any, pads))


@fresh
def _pointwise(*, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    """`x` (N, C_in, H, W) and a packed weight -> (N, C_out, H, W) with the channels last in memory."""
    rows = x.permute(0, 2, 3, 1)
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(rows, weight, bias, activation, [], "")
    return result.permute(0, 3, 1, 2)


@fresh
def _small(*, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x` (N, C_in, H, W), weight (C_out, C_in) -> (N, C_out, H, W) with the channels last in memory."""
    return functional.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def _prepare_conv(weight: torch.Size, x: tuple[int, ...], arguments: Mapping[str, Value]) -> Prepared | None:
    geometry = _geometry(weight, x, arguments)
    if geometry is None or not is_symmetric(geometry[3]):
        return None
    strides, dilations, groups, pads = geometry
    padding = [before for before, _ in pads]
    return (
        partial(
            _conv, bias=arguments.get("bias"), padding=padding, strides=strides, dilations=dilations, groups=groups
        ),
        lambda original: torch.ops.mkldnn._reorder_convolution_weight(
            original, padding, strides, dilations, groups, list(x)
        ),
    )


@fresh
def _conv(
    *, x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], strides: list[int], dilations: list[int],
    groups: int, activation: str = "none",
) -> Tensor:  # fmt: skip
    x = x.contiguous(memory_format=torch.channels_last)
    result: Tensor = torch.ops.mkldnn._convolution_pointwise.default(
        x, weight, bias, padding, strides, dilations, groups, activation, [], ""
    )
    return result


FORMS: dict[str, Callable[[torch.Size, tuple[int, ...], Mapping[str, Value]], Prepared | None]] = {
    "linear": _prepare_linear,
    "small": _prepare_small,
    "pointwise": _prepare_pointwise,
    "conv": _prepare_conv,
}
"""(shape of the weight, shape of x, the other arguments) -> kernel and reordering, or None where it does not serve."""
