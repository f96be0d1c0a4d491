"""Convolutions of one to three spatial dimensions and their transposes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from coreml_runtime.ops.padding import Pads, is_symmetric, pad_spatial, spatial_pads
from coreml_runtime.ops.table import Ints, Kernel, fresh, table

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


@fresh
def conv(
    *, x: Tensor, weight: Tensor, bias: Tensor | None = None, strides: Ints = (), pad_type: str = "valid",
    pad: Ints = (), dilations: Ints = (), groups: int = 1,
) -> Tensor:  # fmt: skip
    """x (N, C_in, *D), weight (C_out, C_in / groups, *K), bias (C_out,) -> (N, C_out, *D_out)."""
    dimensions = x.dim() - 2
    strides, dilations = strides or (1,) * dimensions, dilations or (1,) * dimensions
    pads = spatial_pads(pad_type, pad, x.shape[2:], weight.shape[2:], strides, dilations)
    if is_symmetric(pads):
        return _CONV[dimensions](x, weight, bias, strides, tuple(before for before, _ in pads), dilations, groups)
    return _CONV[dimensions](pad_spatial(x, pads), weight, bias, strides, 0, dilations, groups)


def conv_quantized(
    *, x: Tensor, weight: Tensor, quantization_type: str, quant_scale: Tensor, quant_bias: Tensor, nbits: int = 8,
    bias: Tensor | None = None, strides: Ints = (), pad_type: str = "valid", pad: Ints = (), dilations: Ints = (),
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`conv` with weights weight * quant_scale + quant_bias; scale and bias are one number or one a channel."""
    if quantization_type != "linear":
        raise ValueError(f"conv_quantized: quantization_type {quantization_type!r} has no table of values")
    shape = (-1, *(1,) * (weight.dim() - 1))
    real = weight.to(x.dtype) * quant_scale.reshape(shape) + quant_bias.reshape(shape)
    return conv(
        x=x, weight=real, bias=None if bias is None else bias.to(x.dtype), strides=strides, pad_type=pad_type, pad=pad,
        dilations=dilations, groups=groups,
    )  # fmt: skip


@fresh
def conv_transpose(
    *, x: Tensor, weight: Tensor, bias: Tensor | None = None, pad: Ints = (), output_shape: Ints = (),
    pad_type: str = "valid", strides: Ints = (), dilations: Ints = (), groups: int = 1,
) -> Tensor:  # fmt: skip
    """x (N, C_in, *D), weight (C_in, C_out / groups, *K) -> (N, C_out, *D_out).

    The full result, (D - 1) * stride + (K - 1) * dilation + 1, is cropped by the padding. An `output_shape` that
    reaches beyond it is filled with zeros, to which the bias is added like everywhere.
    """
    dimensions = x.dim() - 2
    strides, dilations = strides or (1,) * dimensions, dilations or (1,) * dimensions
    full = tuple(
        (size - 1) * stride + (extent - 1) * dilation + 1
        for size, stride, extent, dilation in zip(x.shape[2:], strides, weight.shape[2:], dilations, strict=True)
    )
    crops = _crops(pad_type, pad, output_shape[-dimensions:], x.shape[2:], full, strides)
    if is_symmetric(crops) and all(before >= 0 for before, _ in crops):
        padding = tuple(before for before, _ in crops)
        return _TRANSPOSE[dimensions](x, weight, bias, strides, padding, 0, groups, dilations)
    result = _TRANSPOSE[dimensions](x, weight, None, strides, 0, 0, groups, dilations)
    cropped = pad_spatial(result, tuple((-before, -after) for before, after in crops))
    return cropped if bias is None else cropped + bias.reshape(-1, *(1,) * dimensions)


def _crops(pad_type: str, pad: Ints, output: Ints, sizes: torch.Size, full: tuple[int, ...], strides: Ints) -> Pads:
    """What to cut off the full result before and after, for each dimension; negative where it is extended."""
    if pad_type in ("valid", "custom"):
        explicit = spatial_pads(pad_type, pad, sizes, full, strides, strides)
        if not output:
            return explicit
        return tuple((before, f - before - o) for (before, _), f, o in zip(explicit, full, output, strict=True))
    wanted = output or tuple(size * stride for size, stride in zip(sizes, strides, strict=True))
    crops = []
    for extent, out in zip(full, wanted, strict=True):
        small, large = (extent - out) // 2, extent - out - (extent - out) // 2
        crops.append((small, large) if pad_type == "same" else (large, small))
    return tuple(crops)


OPS: dict[str, Kernel] = table(conv, conv_quantized, conv_transpose)
