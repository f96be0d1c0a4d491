"""Gives constants of a program the compressed form that they had in the file which it was made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from coreml_runtime.export.matching import match_forms
from coreml_runtime.forms import Form, Palette, Scaled, expand

if TYPE_CHECKING:
    from coremltools.converters.mil.mil import Operation, Program, Var

FIRST_GENERATION, BLOCKWISE_GENERATION = 16, 18
"""The iOS releases that brought `constexpr` operators, and those of them whose zero points need not be integers."""
_WIDTHS = (1, 2, 4, 6, 8)
_EXACT = 1e-3
"""How far a zero point may be from an integer, in steps of the integers."""
_ROUNDED = 2.0**-10
"""By how much a scale may change where it is rounded: those below 6e-5 lose digits in half precision."""


def restore(program: Program, forms: Mapping[str, Form], generation: int) -> list[str]:
    """Store weights of `program` in `forms`, in place; the names of those that it does not have as such.

    Given:   %w = const(float [8, 3]);  %y = linear(x=%x, weight=%w)
    Result:  %w = constexpr_affine_dequantize(int8 [8, 3], …);  %y = linear(x=%x, weight=%w)

    `generation` is that of the target, by iOS's number: before iOS 16 everything stays plain.
    """
    left = dict(forms)
    rounded: dict[np.dtype[np.floating], dict[str, Form]] = {}
    for op in list(_constants(program)):
        dtype = op.outputs[0].val.dtype
        if dtype not in rounded:
            rounded[dtype] = {n: replace(f, dense=f.dense.astype(dtype).astype(np.float32)) for n, f in forms.items()}
        values = torch.from_numpy(op.outputs[0].val.astype(np.float32))
        for name, form in rounded[dtype].items():
            found = match_forms({name: values}, [form])
            if found and _replaced(op, found[name], generation):
                left.pop(name, None)
                break
    return list(left)


def _constants(program: Program) -> Iterator[Operation]:
    for function in program.functions.values():
        for op in function.operations:
            if op.op_type == "const" and getattr(op.outputs[0].val, "dtype", np.dtype(bool)).kind == "f":
                yield op


def _replaced(op: Operation, form: Form, generation: int) -> bool:
    """Whether the target could hold the form, and a `constexpr` operator has taken the constant's place."""
    block, old = op.enclosing_block, op.outputs[0]
    with block:
        new = _stored(op, form, generation)
    if new is None:
        return False
    block.replace_uses_of_var_after_op(anchor_op=op, old_var=old, new_var=new, force_replace=True)
    block.remove_ops([op])
    new.name = new.op.name = old.name
    return True


def _stored(op: Operation, form: Form, generation: int) -> Var | None:
    """What the operator of the form gives; None where the target has none, or none that gives the same."""
    if generation < FIRST_GENERATION or form.mask is not None:
        return None
    if form.palette is not None:
        return _palette(op, form.palette)
    assert form.scaled is not None, "what is stored is compressed"
    if form.scaled.scale.size == 1 and not (form.scaled.bits == 8 or generation >= BLOCKWISE_GENERATION):
        return _palette(op, _table_of(form.scaled))
    return _scaled(op, form.scaled, generation)


def _palette(op: Operation, palette: Palette) -> Var | None:
    """Indices into one table for all values, of a width that Core ML has."""
    from coremltools.converters.mil.frontend import _utils

    bits = next(width for width in _WIDTHS if width >= palette.bits)
    missing = (1 << bits) - palette.table.shape[-2]
    table = np.pad(
        palette.table.astype(op.outputs[0].val.dtype), [*[(0, 0)] * (palette.table.ndim - 2), (0, missing), (0, 0)]
    )
    return _utils._construct_constexpr_lut_op(palette.indices, table, before_op=op, name=f"{op.name}_stored")


def _scaled(op: Operation, scaled: Scaled, generation: int) -> Var | None:
    """Integers whose zero point is one too, or, from iOS 18 on, any number."""
    from coremltools.converters.mil.frontend import _utils

    dtype = op.outputs[0].val.dtype
    scaled = _without_zero_scales(scaled)
    scale = scaled.scale.astype(dtype)
    if np.abs(scale / scaled.scale - 1).max() > _ROUNDED:
        return None
    zero = _zero_point(scaled)
    whole = np.rint(zero)
    if np.abs(zero - whole).max() <= _EXACT and whole.min() >= 0 and whole.max() < 1 << scaled.bits:
        zero = whole.astype(scaled.data.dtype)
    elif generation >= BLOCKWISE_GENERATION:
        zero = zero.astype(dtype)
    elif zero.size == 1:
        return _palette(op, _table_of(scaled))
    else:
        return None
    axis = next((axis for axis, size in enumerate(scaled.scale.shape) if size > 1), 0)
    return _utils._construct_constexpr_dequant_op(
        scaled.data, zero, scale, axis=axis, before_op=op, name=f"{op.name}_stored"
    )


def _without_zero_scales(scaled: Scaled) -> Scaled:
    """The same values with no scale of 0, as coremltools writes them for channels without weights."""
    none = scaled.scale == 0
    if not none.any():
        return scaled
    shift = np.zeros_like(scaled.scale) if scaled.shift is None else scaled.shift
    shape = scaled.data.shape
    return replace(
        scaled,
        data=np.where(expand(none, shape), expand(shift != 0, shape), scaled.data).astype(scaled.data.dtype),
        scale=np.where(none, np.where(shift != 0, shift, 1), scaled.scale),
        zero=np.where(none, 0, scaled.zero).astype(scaled.zero.dtype),
        shift=np.where(none, 0, shift),
    )


def _zero_point(scaled: Scaled) -> NDArray[np.float64]:
    """`scale * (data - zero) + shift` as `scale * (data - this)`."""
    zero = scaled.zero.astype(np.float64)
    if scaled.shift is None:
        return zero
    return zero - scaled.shift.astype(np.float64) / scaled.scale.astype(np.float64)


def _table_of(scaled: Scaled) -> Palette:
    """Scaled integers with one scale as the table of all their values."""
    steps = np.arange(1 << scaled.bits, dtype=np.float64) - _zero_point(scaled).reshape(-1, 1)
    values = (steps * scaled.scale.astype(np.float64).reshape(-1, 1)).astype(scaled.scale.dtype)
    table = values.reshape(*[1] * scaled.data.ndim, -1, 1)
    return Palette(indices=scaled.data.astype(np.uint8), table=table, bits=scaled.bits, axis=0)
