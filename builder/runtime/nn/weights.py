"""Reads a WeightParams message (float, half, linear or look-up-table quantised) as a float32 tensor."""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from builder.runtime.bits import unpack_bits
from builder.runtime.errors import ModelError


def _unpacked(raw: bytes, bits: int, count: int) -> Tensor:
    """`count` unsigned integers of 1 to 8 bits, packed most significant bit first, as coremltools packs them."""
    if not 1 <= bits <= 8:
        raise ModelError(f"quantised weights declare {bits} bits a value; 1 to 8 are possible")
    if len(raw) * 8 < bits * count:
        need = -(-bits * count // 8)
        raise ModelError(f"quantised weights hold {len(raw)} bytes; {count} values of {bits} bits need {need}")
    packed = np.frombuffer(bytearray(raw), dtype=np.uint8)
    return torch.from_numpy(unpack_bits(packed, bits, count, most_significant_first=True))


def _per_channel(values: Sequence[float], shape: Sequence[int], axis: int) -> Tensor:
    """One value, or one a channel of `axis`, shaped so that it broadcasts over `shape`."""
    tensor = torch.tensor(values, dtype=torch.float32)
    if tensor.numel() == 1:
        return tensor
    if tensor.numel() != shape[axis]:
        raise ModelError(
            f"weights of shape {tuple(shape)} have {tensor.numel()} scales; 1 or {shape[axis]} are possible"
        )
    return tensor.reshape([-1 if index == axis else 1 for index in range(len(shape))])


def _dequantize(stored: Tensor, message: Any, axis: int) -> Tensor:
    """W = W_quantised * scale + bias, or a look-up (NeuralNetwork.proto, LinearQuantizationParams)."""
    quantization = message.quantization
    if quantization.WhichOneof("QuantizationType") == "lookupTableQuantization":
        table = torch.tensor(quantization.lookupTableQuantization.floatValue, dtype=torch.float32)
        if stored.numel() and int(stored.max()) >= table.numel():
            raise ModelError(f"a look-up table of {table.numel()} values is indexed with {int(stored.max())}")
        return table[stored.long()]
    linear = quantization.linearQuantization
    value = stored.float()
    if linear.scale:
        value = value * _per_channel(linear.scale, stored.shape, axis)
    if linear.bias:
        value = value + _per_channel(linear.bias, stored.shape, axis)
    return value


def _packed_floats(message: Any) -> np.ndarray[Any, Any]:
    """The field `floatValue` without a Python object for each number.

    protobuf gives repeated floats one by one, five seconds for 100 million; serialised they are the field's tag (0x0a),
    the length in bytes as a varint, and the numbers as they lie in memory. Anything else goes the slow way.
    """
    raw = message.SerializeToString()
    size, position, shift = 0, 1, 0
    while raw[:1] == b"\x0a" and position < min(len(raw), 11):
        size |= (raw[position] & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if raw[position - 1] < 0x80:
            break
    if size == 4 * len(message.floatValue) and position + size <= len(raw):
        return np.frombuffer(raw, dtype="<f4", count=size // 4, offset=position)
    return np.asarray(message.floatValue, dtype=np.float32)


def read_weights(message: Any, shape: Sequence[int], *, axis: int = 0) -> Tensor:
    """The values of `message` as a float32 tensor of `shape`; `axis` is the one that quantisation scales run along.

    Raises ModelError where the file holds another number of values than the layer's parameters declare.
    """
    count = prod(shape)
    if message.rawValue:
        stored = _unpacked(message.rawValue, message.quantization.numberOfBits, count)
        return _dequantize(stored.reshape(tuple(shape)), message, axis)
    if message.int8RawValue:
        values: np.ndarray[Any, Any] = np.frombuffer(message.int8RawValue, dtype=np.int8)
    elif message.float16Value:
        if len(message.float16Value) % 2:
            raise ModelError("half precision weights hold an odd number of bytes")
        values = np.frombuffer(message.float16Value, dtype=np.float16)
    else:
        values = _packed_floats(message)
    if values.size != count:
        raise ModelError(f"weights of shape {tuple(shape)} are {count} values, and the file holds {values.size}")
    tensor = torch.from_numpy(values.astype(np.float32)).reshape(tuple(shape))
    return _dequantize(tensor, message, axis) if message.int8RawValue else tensor


def weight_count(message: Any) -> int:
    """How many values `message` holds, for the few weights whose shape the layer does not declare."""
    if message.rawValue:
        return len(message.rawValue) * 8 // max(int(message.quantization.numberOfBits), 1)
    return len(message.floatValue) or len(message.float16Value) // 2 or len(message.int8RawValue)
