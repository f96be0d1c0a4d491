"""How an ML program stores its compressed weights: chains of `constexpr` operators as one Form each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from coreml_runtime.bits import unpack_bits
from coreml_runtime.dtypes import SUB_BYTE
from coreml_runtime.forms import Form, Palette, Scaled, expand
from coreml_runtime.ops.context import TensorType
from coreml_runtime.program import Block, Constant, Function, Operation, Reference

Array = np.ndarray
Known = Array | Form
"""A plain constant, or a compressed one."""

_NOTHING = np.zeros(0, np.float32)
_SINGLE = np.dtype(np.float32)


def program_forms(function: Function) -> list[Form]:
    """The compressed weights of a function; chains that no Form describes are left out."""
    return list(_block_forms(function.block, {}))


def _block_forms(block: Block, outer: Mapping[str, Known | None]) -> Iterator[Form]:
    known = dict(outer)
    inner = [name for operation in block.operations for name in _read_by_storage(operation)]
    for operation in block.operations:
        if operation.type == "const":
            known[operation.outputs[0].name] = _plain(operation.inputs["val"][0])
        elif operation.type in _READERS:
            names = [entry.name for entry in operation.outputs]
            found = _READERS[operation.type](_Arguments(operation, known))
            known.update(dict.fromkeys(names, found))
            if isinstance(found, Form) and names[-1] not in inner:
                yield found
        for nested in operation.blocks:
            yield from _block_forms(nested, known)


def _read_by_storage(operation: Operation) -> Iterator[str]:
    if operation.type.startswith("constexpr_"):
        yield from (each.name for given in operation.inputs.values() for each in given if isinstance(each, Reference))


def _plain(value: object) -> Array | None:
    return value.value.numpy() if isinstance(value, Constant) and hasattr(value.value, "numpy") else None


class _Arguments:
    """The arguments of a `constexpr` operator by name."""

    def __init__(self, operation: Operation, known: Mapping[str, Known | None]) -> None:
        self._operation, self._known = operation, known

    def __call__(self, name: str) -> Known | None:
        """A constant, a form, or None where it is not given or neither."""
        given = self._operation.inputs.get(name, ())
        if len(given) != 1:
            return None
        (one,) = given
        return self._known.get(one.name) if isinstance(one, Reference) else _plain(one)

    def array(self, name: str) -> Array | None:
        """A plain constant; a compressed one made dense."""
        found = self(name)
        return found.dense if isinstance(found, Form) else found

    def bits(self, name: str) -> int:
        """How many bits the declared type of a constant's elements has."""
        (one,) = self._operation.inputs[name]
        declared = one.type if isinstance(one, Constant) else None
        if isinstance(declared, TensorType):
            return SUB_BYTE[declared.dtype][0] if declared.dtype in SUB_BYTE else 8
        return _bits_of(self.array(name))


def _bits_of(values: Array | None) -> int:
    """The fewest bits that hold these integers, of those that formats have."""
    if values is None or not values.size:
        return 8
    low, high = int(values.min()), int(values.max())
    signed = values.dtype.kind == "i"
    return next((b for b in (4, 8) if signed and -(1 << b - 1) <= low and high < 1 << b - 1), 8) if signed else next(
        (b for b in (1, 2, 3, 4, 6, 8) if high < 1 << b), 8
    )  # fmt: skip


def _affine(given: _Arguments) -> Form | None:
    data, scale, zero, axis = (given.array(name) for name in ("quantized_data", "scale", "zero_point", "axis"))
    if data is None or scale is None or zero is None or axis is None:
        return None
    shape = [1] * data.ndim
    if max(scale.size, zero.size) > 1:
        shape[int(axis) % data.ndim] = -1
    wide = np.broadcast_to(scale.reshape(-1), (max(scale.size, zero.size),))
    offset = np.broadcast_to(zero.reshape(-1), wide.shape).astype(data.dtype)
    return _scaled(data, wide.reshape(shape), offset.reshape(shape), 8)


def _scaled(data: Array, scale: Array, zero: Array | None, bits: int) -> Form:
    zero = np.zeros(scale.shape, data.dtype) if zero is None else zero
    if zero.dtype.kind == "f":
        scaled = Scaled(
            data=data, scale=scale, zero=np.zeros(scale.shape, data.dtype), bits=bits, shift=-(zero * scale)
        )
    else:
        scaled = Scaled(data=data, scale=scale, zero=zero.astype(data.dtype), bits=bits)
    return Form(dense=_NOTHING, scaled=scaled).as_stored(scale.dtype)


def _blockwise(given: _Arguments) -> Known | None:
    data, scale, zero = given("data"), given.array("scale"), given.array("offset")
    if scale is None:
        return None
    if isinstance(data, Form):  # a table of integers: its entries without the zero, and the scale behind it
        if data.palette is None or data.mask is not None or (zero is not None and np.ptp(zero) > 0):
            return None
        plain = data.palette.table.astype(scale.dtype) - (0 if zero is None else zero.reshape(-1)[0])
        palette = Palette(
            indices=data.palette.indices, table=plain, bits=data.palette.bits, axis=data.palette.axis, scale=None
        )
        if scale.size == 1:
            return _palette(palette.indices, plain * scale.reshape(-1)[0], palette.bits, palette.axis)
        if scale.ndim != palette.indices.ndim:
            return None
        return Form(dense=_NOTHING, palette=Palette(**{**vars(palette), "scale": _spread(scale, data)})).as_stored(
            scale.dtype
        )
    if data is None:
        return None
    if data.dtype.kind == "f":  # a table with a scale for each of its groups
        return expand(scale, data.shape) * (data if zero is None else data - expand(zero, data.shape))
    return _scaled(data, scale, zero, given.bits("data"))


def _spread(scale: Array, data: Form) -> Array:
    """Scales of blocks, one for each element along every axis where there is more than one."""
    for axis, size in enumerate(data.dense.shape):
        if scale.shape[axis] not in (1, size):
            scale = np.repeat(scale, size // scale.shape[axis], axis)
    return scale


def _palette(indices: Array, table: Array, bits: int, axis: int) -> Form:
    palette = Palette(indices=indices.astype(np.uint8), table=table, bits=bits, axis=axis)
    dtype = table.dtype if table.dtype.kind == "f" else _SINGLE
    return Form(dense=_NOTHING, palette=palette).as_stored(dtype)


def _lookup(given: _Arguments) -> Form | None:
    indices, table, shape = (given.array(name) for name in ("indices", "lut", "shape"))
    if indices is None or table is None:
        return None
    if shape is not None:  # iOS16: packed bytes, one table
        sizes = tuple(int(size) for size in shape)
        bits = max(table.size - 1, 1).bit_length()
        indices = unpack_bits(indices.view(np.uint8), bits, int(np.prod(sizes))).reshape(sizes)
        return _palette(indices, table.reshape(*[1] * len(sizes), -1, 1), bits, 0)
    bits = max(table.shape[-2] - 1, 1).bit_length()
    axis = given.array("vector_axis")
    return _palette(indices, table, bits, 0 if axis is None else int(axis) % indices.ndim)


def _sparse(given: _Arguments) -> Form | None:
    values, mask, shape = given("nonzero_data"), given.array("mask"), given.array("shape")
    if isinstance(values, Form):  # the last of two: the first one has the mask and all that is behind it
        return values
    if values is None or mask is None:
        return None
    if shape is not None:  # iOS16: packed bits
        sizes = tuple(int(size) for size in shape)
        mask = unpack_bits(mask.view(np.uint8), 1, int(np.prod(sizes))).reshape(sizes)
    dense = np.zeros(mask.shape, values.dtype)
    dense[mask.astype(bool)] = values
    return Form(dense=dense, mask=mask.astype(bool)) if values.dtype.kind == "f" else None


def _sparse_lookup(given: _Arguments) -> Form | None:
    mask, indices, table = (given.array(name) for name in ("indices_mask", "indices_nonzero_data", "lut"))
    if mask is None or indices is None or table is None or table.shape[-1] != 1 or table.dtype.kind != "f":
        return None
    placed = np.zeros(mask.shape, np.uint8)
    placed[mask.astype(bool)] = indices
    form = _palette(placed, table, max(table.shape[-2] - 1, 1).bit_length(), 0)
    return Form(dense=_NOTHING, palette=form.palette, mask=mask.astype(bool)).as_stored(table.dtype)


def _sparse_scaled(given: _Arguments) -> Form | None:
    mask, values, scale, zero = (given.array(name) for name in ("data_mask", "nonzero_data", "scale", "offset"))
    if mask is None or values is None or scale is None or (zero is not None and zero.any()):
        return None
    placed = np.zeros(mask.shape, values.dtype)
    placed[mask.astype(bool)] = values
    form = _scaled(placed, scale, zero, given.bits("nonzero_data"))
    return Form(dense=_NOTHING, scaled=form.scaled, mask=mask.astype(bool)).as_stored(scale.dtype)


_READERS: Mapping[str, Callable[[_Arguments], Known | None]] = {
    "constexpr_affine_dequantize": _affine,
    "constexpr_blockwise_shift_scale": _blockwise,
    "constexpr_lut_to_dense": _lookup,
    "constexpr_sparse_to_dense": _sparse,
    "constexpr_lut_to_sparse": _sparse_lookup,
    "constexpr_sparse_blockwise_shift_scale": _sparse_scaled,
}
