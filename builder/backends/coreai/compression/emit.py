"""A weight in the form that steps gave it, as operators of a Core AI program in the place of its constant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from builder.backends.coreai import adapter
from coreml_runtime.forms import Form, Palette, Scaled

if TYPE_CHECKING:
    from builder.backends.coreai.adapter import Operation, Value


def emit(constant: Operation, form: Form, name: str) -> None:
    """Replace a constant by what makes the same tensor from less; constants of it are named after it.

    Given:   %w = constant : tensor<8x3xf32>
    Result:  %d = constant : tensor<8x3xsi8>; %s, %z, %b = constants : tensor<8x1…>
             %w = blockwise_shift_scale %d, %s, %z, %b : tensor<8x3xf32>
    """
    like = constant.results[0]
    with constant.location, adapter.insert_before(constant):
        adapter.replace(constant, _make(like, form, name))


def _make(like: Value, form: Form, name: str) -> Value:
    shape = adapter.shape_of(like)
    if form.mask is None:
        if form.palette is not None:
            return _palette(form.palette, like, name, shape)
        assert form.scaled is not None, "what is emitted was changed"
        data = _integers(form.scaled, f"{name}.data", form.scaled.data)
        return _shifted(data, form.scaled, like, name, shape)
    mask = adapter.make_constant(form.mask.astype(np.uint8), f"{name}.mask", bits=1)
    if form.palette is not None:
        values = _palette(form.palette, like, name, form.palette.indices.shape)
        return adapter.spread(values, mask)  # the table is made of floats first: what is not stored is zero
    if form.scaled is not None:
        data = _integers(form.scaled, f"{name}.data", form.scaled.data[form.mask])
        return _shifted(adapter.spread(data, mask), form.scaled, like, name, shape)
    return adapter.spread(adapter.make_constant(form.dense[form.mask], f"{name}.values", like=like), mask)


def _palette(palette: Palette, like: Value, name: str, shape: tuple[int, ...]) -> Value:
    indices = adapter.make_constant(palette.indices, f"{name}.indices", bits=palette.bits)
    if palette.integers is None:
        table = adapter.make_constant(palette.table, f"{name}.table", like=like)
    else:
        table = _integers(palette.integers, f"{name}.table", palette.integers.data)
    dense = adapter.lookup(indices, table, palette.axis, shape)
    ones = (1,) * len(shape)
    if palette.integers is not None:
        scale = palette.integers.scale.reshape(ones)
        if palette.scale is not None:
            scale = scale * palette.scale
        zero = np.broadcast_to(palette.integers.zero.reshape(ones), scale.shape)
        scaled = Scaled(data=palette.integers.data, scale=scale, zero=zero, bits=palette.integers.bits)
        return _shifted(dense, scaled, like, name, shape)
    if palette.scale is None:
        return dense
    scale = adapter.make_constant(palette.scale, f"{name}.scale", like=like)
    nothing = adapter.make_zeros(palette.scale.shape, like=like)
    return adapter.shift_scale(dense, scale, nothing, nothing, shape)


def _shifted(data: Value, scaled: Scaled, like: Value, name: str, shape: tuple[int, ...]) -> Value:
    scale = adapter.make_constant(scaled.scale, f"{name}.scale", like=like)
    if scaled.zero.any():
        zero = _integers(scaled, f"{name}.zero", scaled.zero)
    else:
        signed = np.issubdtype(scaled.zero.dtype, np.signedinteger)
        zero = adapter.make_zeros(scaled.scale.shape, bits=scaled.bits, signed=signed)
    if scaled.shift is None:
        shift = adapter.make_zeros(scaled.scale.shape, like=like)
    else:
        shift = adapter.make_constant(scaled.shift, f"{name}.shift", like=like)
    return adapter.shift_scale(data, scale, zero, shift, shape)


def _integers(scaled: Scaled, name: str, values: Value) -> Value:
    return adapter.make_constant(np.ascontiguousarray(values), name, bits=scaled.bits)
