"""MIL's affine quantisation of activations (iOS17): quantize and dequantize."""

from __future__ import annotations

import torch
from torch import Tensor

from builder.runtime.ops.table import table

_RANGES = {"int8": (torch.int8, -128, 127), "uint8": (torch.uint8, 0, 255)}


def quantize(
    *, input_: Tensor, scale: Tensor, output_dtype: str, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """clip(round(input / scale) + zero_point); scale and zero point are scalars or vectors along `axis`."""
    dtype, lowest, highest = _RANGES[output_dtype]
    result = (input_ / along(scale, input_.dim(), axis)).round_()
    if zero_point is not None:
        result += along(zero_point, input_.dim(), axis).to(result.dtype)
    return result.clamp_(lowest, highest).to(dtype)


def dequantize(*, input_: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None) -> Tensor:
    """scale * (input - zero_point), in the dtype of `scale`."""
    result = input_.to(scale.dtype)
    if zero_point is not None:
        result = result - along(zero_point, input_.dim(), axis).to(scale.dtype)
    return result * along(scale, input_.dim(), axis)


def along(parameter: Tensor, rank: int, axis: int | None) -> Tensor:
    """A vector (C) shaped (1, …, C, …, 1), so that it broadcasts along `axis` of a tensor of `rank`."""
    if parameter.dim() != 1 or parameter.numel() == 1 or axis is None:
        return parameter.reshape(()) if parameter.numel() == 1 else parameter
    shape = [1] * rank
    shape[axis] = -1
    return parameter.view(shape)


OPS = table(quantize, dequantize)
