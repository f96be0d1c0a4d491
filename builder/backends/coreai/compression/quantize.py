"""Integers with a linear scale: `q = round(w / scale) + zero`, clipped, as coremltools' `quantize_weight_by_dtype`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from builder.spec.compression import LinearQuantize
from coreml_runtime.forms import Form, Palette, Scaled, dequantize, lookup


def quantize(form: Form, step: LinearQuantize, channels: tuple[int, int] | None) -> Form | str:
    """The weight as integers; a table or sparse values where it is already that; or why not.

    `channels` are the axes of output and input channels; None where users disagree.
    """
    bits, signed = int(step.dtype.lstrip("uint")), not step.dtype.startswith("u")
    if form.scaled is not None:
        return f"compressed already ({form.name}), and linear_quantize adds nothing to that"
    if form.palette is not None:
        return _table(form, form.palette, bits, signed=signed, mode=step.mode)
    blocks = block_sizes(form.dense.shape, step, channels)
    if isinstance(blocks, str):
        return blocks
    symmetric = step.mode == "linear_symmetric" or form.mask is not None  # zeros that are not stored are zero
    if form.mask is not None and not signed:
        return "sparse weights are stored as signed integers, whose zero is zero"
    scaled = scale_blocks(form.dense, blocks, bits, signed=signed, symmetric=symmetric)
    return replace(form, scaled=scaled, dense=dequantize(scaled).astype(form.dense.dtype))


def block_sizes(shape: tuple[int, ...], step: LinearQuantize, channels: tuple[int, int] | None) -> list[int] | str:
    """How many elements of each axis share a scale (0: all), or why that cannot be."""
    if isinstance(step.block_size, list):
        if len(step.block_size) != len(shape):
            return f"block_size has {len(step.block_size)} sizes, and the weight {len(shape)} axes"
        sizes = list(step.block_size)
    else:
        sizes = [0] * len(shape)
        if step.granularity != "per_tensor":
            if channels is None:
                return "its users have their output channels on different axes"
            sizes[channels[0]] = 1
            if step.granularity == "per_block":
                sizes[channels[1]] = step.block_size or 32
    for axis, (size, block) in enumerate(zip(shape, sizes, strict=True)):
        if block and size % block:
            return f"axis {axis} has {size} elements, no multiple of the block size {block}"
    return sizes


def scale_blocks(weight: np.ndarray, blocks: Sequence[int], bits: int, *, signed: bool, symmetric: bool) -> Scaled:
    """Quantize with one scale and zero for each block; a block of nothing but zeros has the scale 1."""
    split: list[int] = []
    reduced: list[int] = []
    shape: list[int] = []
    for size, block in zip(weight.shape, blocks, strict=True):
        if block:
            shape.append(size // block)
            split += [size // block, block]
        else:
            shape.append(1)
            split.append(size)
        reduced.append(len(split) - 1)
    values = weight.reshape(split)
    low = values.min(axis=tuple(reduced), keepdims=True)
    high = values.max(axis=tuple(reduced), keepdims=True)
    least, most = _range(bits, signed=signed, symmetric=symmetric)
    if symmetric:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    scale = ((high - low) / (most - least)).astype(weight.dtype)
    scale = np.where(scale == 0, np.ones_like(scale), scale)
    data = np.round(values / scale)
    zero = np.zeros(scale.shape)
    if symmetric and not signed:
        zero = np.full(scale.shape, float(most // 2))
    elif not symmetric:
        width = np.where(high == low, np.ones_like(high), high - low)
        zero = np.clip(np.round((least * high - most * low) / width), least, most)
    kind = np.int8 if signed else np.uint8
    return Scaled(
        data=np.clip(data + zero, least, most).astype(kind).reshape(weight.shape),
        scale=scale.reshape(shape),
        zero=zero.astype(kind).reshape(shape),
        bits=bits,
    )


def _table(form: Form, palette: Palette, bits: int, *, signed: bool, mode: str) -> Form | str:
    """The table of a palette as integers of 8 bits on one scale."""
    if palette.integers is not None or bits != 8:
        return f"compressed already ({form.name}), whose table can become int8 or uint8 once"
    symmetric = mode == "linear_symmetric"
    integers = scale_blocks(palette.table, [0] * palette.table.ndim, bits, signed=signed, symmetric=symmetric)
    smaller = replace(palette, integers=integers)
    values = lookup(smaller).astype(form.dense.dtype)
    if form.mask is None:
        return replace(form, palette=smaller, dense=values)
    dense = np.zeros_like(form.dense)
    dense[form.mask] = values
    return replace(form, palette=smaller, dense=dense)


def _range(bits: int, *, signed: bool, symmetric: bool) -> tuple[int, int]:
    if signed:
        return -(1 << (bits - 1)) + symmetric, (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1 - symmetric
