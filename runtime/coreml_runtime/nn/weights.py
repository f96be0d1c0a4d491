"""Reads a WeightParams message (float, half, linear or look-up-table quantised) as a float32 tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from coreml_runtime.bits import unpack_bits
from coreml_runtime.errors import ModelError
from coreml_runtime.forms import Form, Palette, Scaled
from coreml_runtime.mapping import Buffer
from coreml_runtime.wire import markers

if TYPE_CHECKING:
    from google.protobuf.message import Message

_RAW, _INT8, _HALF, _FLOAT = "rawValue", "int8RawValue", "float16Value", "floatValue"
_NUMBERS = {1: _FLOAT, 2: _HALF, 30: _RAW, 31: _INT8}
"""The fields of WeightParams that hold values; the first of the four that is there counts."""
_WIDTHS = {_INT8: 1, _HALF: 2, _FLOAT: 4}
"""Bytes of a value."""
_PART = 1 << 18
"""Values that are brought into float32 at a time where that takes memory."""
_ALIGNMENT = 64

Array = np.ndarray


def read_weights(message: Message, shape: Sequence[int], *, axis: int = 0, content: Buffer = b"") -> Tensor:
    """The values of `message` as a float32 tensor of `shape`; `axis` is the one that quantisation scales run along.

    A value that was cut out of the message lies in the file `content`, at any byte: it is read from there straight
    into the aligned memory that the kernels compute on.
    Raises ModelError where the file holds another number of values than the layer's parameters declare.
    """
    return read_later(message, shape, axis=axis, content=content)()


def read_later(message: Message, shape: Sequence[int], *, axis: int = 0, content: Buffer = b"") -> Callable[[], Tensor]:
    """What makes the tensor of `read_weights`: the values are read and checked now, quantised ones decoded later."""
    field, stored = _stored(message, content)
    count = prod(shape)
    if field == _RAW:
        return _quantized(stored, field, message, shape, axis)
    width = _WIDTHS[field]
    if stored.size % width:
        raise ModelError("half precision weights hold an odd number of bytes")
    if stored.size != count * width:
        found = stored.size // width
        raise ModelError(f"weights of shape {tuple(shape)} are {count} values, and the file holds {found}")
    if field == _INT8:
        return _quantized(stored, field, message, shape, axis)
    target = _allocated(count)
    if field == _HALF:
        _widen(stored, target)
    else:
        target.view(np.uint8)[:] = stored
    tensor = torch.from_numpy(target).reshape(tuple(shape))
    return lambda: tensor


def weight_count(message: Message, content: Buffer) -> int:
    """How many values `message` holds, for the few weights whose shape the layer does not declare."""
    field, stored = _stored(message, content)
    if field == _RAW:
        return stored.size * 8 // max(int(message.quantization.numberOfBits), 1)
    return stored.size // _WIDTHS[field]


def stored_size(message: Message, content: Buffer) -> int:
    """Bytes of the values of `message` in the file, with the scales or the table of quantised ones."""
    quantization = message.quantization
    linear, table = quantization.linearQuantization, quantization.lookupTableQuantization
    parameters = len(linear.scale) + len(linear.bias) + len(table.floatValue)
    return int(_stored(message, content)[1].size) + _WIDTHS[_FLOAT] * parameters


def _stored(message: Message, content: Buffer) -> tuple[str, Array]:
    """The field that holds the values and its bytes, from the message or from the file."""
    cut = {_NUMBERS[number]: (start, size) for number, start, size in markers(message)} if content else {}
    for field in (_RAW, _INT8, _HALF):
        if field in cut or getattr(message, field):
            break
    else:
        field = _FLOAT
    if field in cut:
        start, size = cut[field]
        return field, np.frombuffer(content, np.uint8, size, start)
    if field == _FLOAT:
        return field, np.array(message.floatValue, np.float32).view(np.uint8)
    return field, np.frombuffer(getattr(message, field), np.uint8)


def _allocated(count: int) -> Array:
    """Memory for `count` numbers, aligned as torch's is.

    It is numpy's because numpy asks for huge pages, torch does not: to fill 244 MB took 0.07 instead of 0.19 s.
    """
    spare = _ALIGNMENT // 4
    found: Array = np.empty(count + spare, np.float32)
    skipped = -found.ctypes.data % _ALIGNMENT // 4
    return found[skipped : skipped + count]


def _widen(stored: Array, target: Array) -> None:
    """Half values, which may lie at an odd address, as float32; torch converts faster than numpy."""
    half, wide = np.empty(min(_PART, target.size), np.float16), torch.from_numpy(target)
    for start in range(0, target.size, _PART):
        part = wide[start : start + _PART]
        half[: part.numel()].view(np.uint8)[:] = stored[2 * start : 2 * (start + part.numel())]
        part.copy_(torch.from_numpy(half)[: part.numel()])


def _quantized(stored: Array, field: str, message: Message, shape: Sequence[int], axis: int) -> Callable[[], Tensor]:
    """W = W_quantised * scale + bias, or a look-up (NeuralNetwork.proto, LinearQuantizationParams).

    The integers have 1 to 8 bits and are packed most significant bit first, as coremltools packs them.
    """
    count, bits = prod(shape), 8 if field == _INT8 else int(message.quantization.numberOfBits)
    if not 1 <= bits <= 8:
        raise ModelError(f"quantised weights declare {bits} bits a value; 1 to 8 are possible")
    if stored.size * 8 < bits * count:
        need = -(-bits * count // 8)
        raise ModelError(f"quantised weights hold {stored.size} bytes; {count} values of {bits} bits need {need}")
    packed, quantization = stored.copy(), message.quantization

    def integers() -> Array:
        return packed.view(np.int8) if field == _INT8 else unpack_bits(packed, bits, count, most_significant_first=True)

    make = _decoder(integers, quantization, bits, shape, axis)
    record = _RECORD.get()
    if record is None:
        return make
    record.append(_form(integers().reshape(tuple(shape)), quantization, bits, axis))
    made = make()  # at once: what is made in a trace would be traced
    return lambda: made


def _decoder(
    integers: Callable[[], Array], quantization: Message, bits: int, shape: Sequence[int], axis: int
) -> Callable[[], Tensor]:
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        table = np.asarray(quantization.lookupTableQuantization.floatValue, np.float32)
        if table.size < 1 << bits:
            _check_indices(integers(), table)
        return lambda: torch.from_numpy(_looked_up(integers(), table)).reshape(tuple(shape))
    linear = quantization.linearQuantization
    scale, bias = _per_channel(linear.scale, shape, axis), _per_channel(linear.bias, shape, axis)
    return lambda: _scaled(integers(), scale, bias, shape)


_RECORD: ContextVar[list[Form] | None] = ContextVar("record", default=None)


@contextmanager
def recorded_forms() -> Iterator[list[Form]]:
    """Collect how the compressed weights that are read inside are stored."""
    found: list[Form] = []
    token = _RECORD.set(found)
    try:
        yield found
    finally:
        _RECORD.reset(token)


def _form(integers: Array, quantization: Message, bits: int, axis: int) -> Form:
    """The weight as a Form; its dense values are computed by `Form.as_stored`."""
    rank, empty = integers.ndim, np.zeros(0, np.float32)
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        table = np.zeros(1 << bits, np.float32)
        values = np.asarray(quantization.lookupTableQuantization.floatValue, np.float32)[: table.size]
        table[: values.size] = values
        palette = Palette(indices=integers, table=table.reshape(*[1] * rank, -1, 1), bits=bits, axis=0)
        return Form(dense=empty, palette=palette).as_stored(np.dtype(np.float32))
    linear = quantization.linearQuantization
    scale, shift = (_blocks(values, rank, axis) for values in (linear.scale, linear.bias))
    scale = np.ones([1] * rank, np.float32) if scale is None else scale
    if shift is not None:
        scale, shift = (np.array(each) for each in np.broadcast_arrays(scale, shift))
    scaled = Scaled(data=integers, scale=scale, zero=np.zeros_like(scale, dtype=integers.dtype), bits=bits, shift=shift)
    return Form(dense=empty, scaled=scaled).as_stored(np.dtype(np.float32))


def _blocks(values: Sequence[float], rank: int, axis: int) -> Array | None:
    """One value a channel of `axis`, or one for all, with `rank` axes."""
    if not values:
        return None
    return np.asarray(values, np.float32).reshape([-1 if index == axis else 1 for index in range(rank)])


def _check_indices(indices: Array, table: Array) -> None:
    if indices.size and int(indices.max()) >= table.size:
        raise ModelError(f"a look-up table of {table.size} values is indexed with {int(indices.max())}")


def _looked_up(indices: Array, table: Array) -> Array:
    target = _allocated(indices.size)
    for start in range(0, indices.size, _PART):
        np.take(table, indices[start : start + _PART], out=target[start : start + _PART], mode="wrap")
    return target


def _scaled(integers: Array, scale: Tensor | None, bias: Tensor | None, shape: Sequence[int]) -> Tensor:
    target = _allocated(integers.size)
    target[:] = integers
    value = torch.from_numpy(target).reshape(tuple(shape))
    if scale is not None:
        value *= scale
    if bias is not None:
        value += bias
    return value


def _per_channel(values: Sequence[float], shape: Sequence[int], axis: int) -> Tensor | None:
    """One value, or one a channel of `axis`, shaped so that it broadcasts over `shape`; None where there are none."""
    if not values:
        return None
    tensor = torch.tensor(values, dtype=torch.float32)
    if tensor.numel() == 1:
        return tensor
    if tensor.numel() != shape[axis]:
        raise ModelError(
            f"weights of shape {tuple(shape)} have {tensor.numel()} scales; 1 or {shape[axis]} are possible"
        )
    return tensor.reshape([-1 if index == axis else 1 for index in range(len(shape))])
