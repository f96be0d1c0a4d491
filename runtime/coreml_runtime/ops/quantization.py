"""MIL's affine quantisation of activations (iOS17): quantize and dequantize."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops.table import table

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
    """Real values, scale * (input - zero_point), in the dtype of `scale`."""
    result = input_.to(scale.dtype)
    if zero_point is not None:
        result = result - along(zero_point, input_.dim(), axis).to(scale.dtype)
    return result * along(scale, input_.dim(), axis)


def along(parameter: Tensor, rank: int, axis: int | None) -> Tensor:
    """A scalar, or a vector (C) along `axis`, shaped (1, …, C, …, 1): to broadcast with a tensor of `rank`."""
    shape = [1] * rank
    if parameter.numel() != 1 and axis is not None:
        shape[axis] = parameter.numel()
    return parameter.reshape(shape)


OPS = table(quantize, dequantize)
