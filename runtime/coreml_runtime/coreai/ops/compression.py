"""Compressed weights and quantised activations."""

from __future__ import annotations

import torch
from torch import Tensor

from coreml_runtime.ops import constexpr
from coreml_runtime.ops.context import Context
from coreml_runtime.ops.quantization import along
from coreml_runtime.ops.table import Ints, Kernel, ListValue, decompresses, exact, table


@exact
@decompresses
def blockwise_shift_scale(*, data: Tensor, scale: Tensor, offset1: Tensor, offset2: Tensor, context: Context) -> Tensor:
    """scale * (data - offset1) + offset2; each parameter covers a block of data.shape / scale.shape elements."""
    zero = bool((offset1 == 0).all())
    dense = constexpr.constexpr_blockwise_shift_scale(
        data=data, scale=scale, offset=None if zero else offset1, context=context
    )
    if bool((offset2 == 0).all()):
        return dense
    return constexpr.blockwise(dense, offset2.to(dense.dtype), torch.add)


@exact
@decompresses
def lut_to_dense(*, indices: Tensor, lut: Tensor, axis: int) -> Tensor:
    """Indices (*D) replaced by what the tables (*G, P, V) hold, vectors laid along `axis`."""
    return constexpr.constexpr_lut_to_dense(indices=indices, lut=lut, vector_axis=axis)


@exact
@decompresses
def build_sparse_with_bitmask(*, values: Tensor, bitmask: Tensor) -> ListValue:
    """A sparse tensor: the mask of what is stored, and the values in its order."""
    return ListValue(items=(bitmask.to(torch.uint8), values))


@exact
@decompresses
def lut_to_sparse_with_bitmask(*, indices: ListValue, lut: Tensor, axis: int) -> ListValue:
    """Sparse indices looked up in tables: sparse values at the same places."""
    mask, values = _parts(indices)
    found = constexpr.constexpr_lut_to_sparse(indices_mask=mask, indices_nonzero_data=values, lut=lut, vector_axis=axis)
    return ListValue(items=found)


@exact
@decompresses
def sparse_with_bitmask_to_dense(*, sparse: ListValue) -> Tensor:
    """The stored values at their places, zeros elsewhere."""
    mask, values = _parts(sparse)
    return constexpr.constexpr_sparse_to_dense(nonzero_data=values, mask=mask)


def _parts(sparse: ListValue) -> tuple[Tensor, Tensor]:
    mask, values = sparse.items
    if mask is None or values is None:
        raise ValueError("a sparse tensor without mask or values")
    return mask, values


def quantize(*, x: Tensor, scale: Tensor, offset1: Tensor, offset2: Tensor, axis: Ints, context: Context) -> Tensor:
    """clip(round((x - offset2) / scale) + offset1); parameters are numbers, or vectors along the one axis."""
    declared = context.output_types[0]
    if declared is None:
        raise TypeError("quantize: the result is not a tensor")
    dtype = scale.dtype if scale.is_floating_point() else torch.float32
    shifted = (x.to(dtype) - _along(offset2, x, axis).to(dtype)) / _along(scale, x, axis)
    if declared.dtype.startswith("fp") or declared.dtype == "bf16":
        return shifted + _along(offset1, x, axis).to(dtype)
    low, high = RANGES[declared.dtype]
    return (shifted.round() + _along(offset1, x, axis).to(dtype)).clamp(low, high)


RANGES = {
    f"{'int' if signed else 'uint'}{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    for bits in (1, 2, 3, 4, 6, 8, 16, 32)
    for signed in (True, False)
}
"""The smallest and largest value of each integer type."""


@decompresses
def dequantize(*, x: Tensor, scale: Tensor, offset1: Tensor, offset2: Tensor, axis: Ints) -> Tensor:
    """(x - offset1) * scale + offset2; parameters are numbers, or vectors along the one axis."""
    dtype = scale.dtype
    shifted = x.to(dtype) - _along(offset1, x, axis).to(dtype)
    return shifted * _along(scale, x, axis) + _along(offset2, x, axis)


def _along(parameter: Tensor, x: Tensor, axis: Ints) -> Tensor:
    """A number, or a vector (C) along the one axis, shaped to broadcast with x."""
    return along(parameter, x.dim(), axis[0] if len(axis) == 1 else None)


def symmetric_quantization_statistics(*, x: Tensor, range_: Tensor, axis: int) -> Tensor:
    """Scales along an axis: 2 max|x| / (range[1] - range[0])."""
    others = tuple(each for each in range(x.dim()) if each != axis % x.dim())
    largest = torch.amax(x.abs(), dim=others)
    return 2 * largest / (range_[1] - range_[0]).to(x.dtype)


def asymmetric_quantization_statistics(*, x: Tensor, range_: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Scales and zero points along an axis, of values whose range is made to hold 0."""
    others = tuple(each for each in range(x.dim()) if each != axis % x.dim())
    high, low = torch.amax(x, dim=others).clamp(min=0), torch.amin(x, dim=others).clamp(max=0)
    limits = range_.to(x.dtype)
    scale = (high - low) / (limits[1] - limits[0])
    shift = low / scale
    zero = limits[0] - (shift if range_.is_floating_point() else shift.round())
    return scale, zero.clamp(float(limits[0]), float(limits[1]))


OPS: dict[str, Kernel] = table(
    blockwise_shift_scale, lut_to_dense, build_sparse_with_bitmask, lut_to_sparse_with_bitmask,
    sparse_with_bitmask_to_dense, quantize, dequantize, symmetric_quantization_statistics,
    asymmetric_quantization_statistics,
)  # fmt: skip
