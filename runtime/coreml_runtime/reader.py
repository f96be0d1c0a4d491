"""From MIL protobuf messages to a Function; whatever the messages claim is checked before it is believed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from coreml_runtime.dtypes import NAMES, SUB_BYTE, stored, unpack
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.ops.context import UNKNOWN_RANK, TensorType
from coreml_runtime.ops.table import Value
from coreml_runtime.program import (
    Argument,
    Block,
    Constant,
    DictionaryType,
    Function,
    ListType,
    Named,
    Operation,
    Reference,
    StateType,
    TupleType,
    ValueType,
)

if TYPE_CHECKING:
    from google.protobuf.message import Message


_OPSETS = {"CoreML5": "ios15", "CoreML6": "ios16", "CoreML7": "ios17", "CoreML8": "ios18", "CoreML9": "ios26"}
_MAXIMUM_RANK = 32
_FIELDS = {"floats": "fp32", "ints": "int32", "bools": "bool", "longInts": "int64", "doubles": "fp64"}

Weights = Callable[[str, int, str, tuple[int, ...]], torch.Tensor]
"""(file name, offset, MIL type, shape) -> tensor on the weight file."""


def read_function(name: str, message: Message, weights: Weights) -> Function:
    """The function `name` of an MIL program, in the block that its opset chooses."""
    if message.opset not in _OPSETS:
        raise UnsupportedError(f"function {name!r}: opset {message.opset!r} is none of {', '.join(_OPSETS)}")
    if message.opset not in message.block_specializations:
        raise ModelError(f"function {name!r}: no block for its opset {message.opset!r}")
    return Function(
        name=name,
        opset=_OPSETS[message.opset],
        inputs=tuple(_named(entry) for entry in message.inputs),
        block=_block(message.block_specializations[message.opset], weights),
    )


def _block(message: Message, weights: Weights) -> Block:
    return Block(
        inputs=tuple(_named(entry) for entry in message.inputs),
        operations=tuple(_operation(entry, weights) for entry in message.operations),
        outputs=tuple(message.outputs),
    )


def _operation(message: Message, weights: Weights) -> Operation:
    attributes: Mapping[str, object] = message.attributes
    name = str(_value(attributes["name"], weights).value) if "name" in attributes else message.type
    where = f"operator {message.type} {name!r}"
    inputs = {key: _argument(value, weights, f"{where}, argument {key!r}") for key, value in message.inputs.items()}
    for key, value in attributes.items():
        if key in inputs:
            raise ModelError(f"{where}: {key!r} is both an argument and an attribute")
        if key != "name":
            inputs[key] = (_value(value, weights, where),)
    return Operation(
        type=message.type,
        name=name,
        inputs=inputs,
        outputs=tuple(_named(entry) for entry in message.outputs),
        blocks=tuple(_block(entry, weights) for entry in message.blocks),
    )


def _argument(message: Message, weights: Weights, where: str) -> Argument:
    bindings = []
    for binding in message.arguments:
        kind = binding.WhichOneof("binding")
        if kind is None:
            raise ModelError(f"{where}: is bound to nothing")
        bindings.append(Reference(name=binding.name) if kind == "name" else _value(binding.value, weights, where))
    return tuple(bindings)


def _named(message: Message) -> Named:
    return Named(name=message.name, type=_type(message.type))


def _type(message: Message) -> ValueType:
    kind = message.WhichOneof("type")
    if kind == "tensorType":
        return _tensor_type(message.tensorType)
    if kind == "listType":
        return ListType(element=_type(message.listType.type), length=_size(message.listType.length))
    if kind == "tupleType":
        return TupleType(elements=tuple(_type(entry) for entry in message.tupleType.types))
    if kind == "dictionaryType":
        return DictionaryType(key=_type(message.dictionaryType.keyType), value=_type(message.dictionaryType.valueType))
    if kind == "stateType":
        wrapped = _type(message.stateType.wrappedType)
        if not isinstance(wrapped, TensorType):
            raise ModelError(f"a state holds {wrapped}, not a tensor")
        return StateType(wrapped=wrapped)
    raise ModelError("a value has no type")


def _tensor_type(message: Message) -> TensorType:
    if message.dataType not in NAMES:
        raise UnsupportedError(f"tensor data type {message.dataType} of MIL")
    if len(message.dimensions) > _MAXIMUM_RANK or message.rank not in (-1, len(message.dimensions)):
        raise ModelError(f"a tensor of rank {message.rank} declares {len(message.dimensions)} dimensions")
    if any(entry.unknown.variadic for entry in message.dimensions):
        return TensorType(dtype=NAMES[message.dataType], shape=UNKNOWN_RANK)
    return TensorType(dtype=NAMES[message.dataType], shape=tuple(_size(entry) for entry in message.dimensions))


def _size(message: Message) -> int | None:
    return int(message.constant.size) if message.WhichOneof("dimension") == "constant" else None


def _value(message: Message, weights: Weights, where: str = "a value") -> Constant:
    declared = _type(message.type)
    kind = message.WhichOneof("value")
    if kind == "blobFileValue":
        reference = message.blobFileValue
        dtype, shape = _static(declared, where)
        return Constant(value=weights(reference.fileName, reference.offset, dtype, shape), type=declared)
    if kind != "immediateValue":
        raise ModelError(f"{where}: holds no value")
    immediate = message.immediateValue
    kind = immediate.WhichOneof("value")
    if kind == "tensor":
        return Constant(value=_tensor(immediate.tensor, *_static(declared, where), where), type=declared)
    if kind in ("list", "tuple"):
        entries = getattr(immediate, kind).values
        return Constant(value=tuple(_value(entry, weights, where).value for entry in entries), type=declared)
    raise UnsupportedError(f"{where}: a constant of kind {kind}")


def _static(declared: ValueType, where: str) -> tuple[str, tuple[int, ...]]:
    if not isinstance(declared, TensorType):
        raise ModelError(f"{where}: a tensor is stored where {declared} is declared")
    shape = tuple(size for size in declared.shape if size is not None)
    if len(shape) != len(declared.shape):
        raise ModelError(f"{where}: a stored tensor has the unknown shape {declared.shape}")
    return declared.dtype, shape


def _tensor(message: Message, dtype: str, shape: tuple[int, ...], where: str) -> Value:
    """An immediate tensor; text comes back as str (rank 0) or as a tuple of str."""
    field = message.WhichOneof("value")
    elements = math.prod(shape)
    if dtype == "string":
        values = tuple(message.strings.values)
        _expect(len(values) == elements, where, len(values), shape)
        return values if shape else values[0]
    if field == "bytes":
        return _from_bytes(message.bytes.values, dtype, shape, where)
    if field is None and elements:
        raise ModelError(f"{where}: a tensor of shape {shape} holds no values")
    values = getattr(message, field).values if field else ()
    scattered = len(values) == 1 and elements == 1
    _expect(scattered or len(values) == elements, where, len(values), shape)
    if field not in (None, *_FIELDS) or dtype in SUB_BYTE:
        raise ModelError(f"{where}: {dtype} values are stored as {field}")
    source = stored(_FIELDS[field]) if field else stored(dtype)
    return torch.tensor(list(values), dtype=source).to(stored(dtype)).reshape(shape)


def _from_bytes(raw: bytes, dtype: str, shape: tuple[int, ...], where: str) -> torch.Tensor:
    elements = math.prod(shape)
    needed = math.ceil(elements * SUB_BYTE[dtype][0] / 8) if dtype in SUB_BYTE else elements * stored(dtype).itemsize
    if needed != len(raw):
        raise ModelError(f"{where}: {len(raw)} bytes are stored, but {dtype} of shape {shape} takes {needed}")
    if not elements:
        return torch.empty(shape, dtype=torch.uint8 if dtype in SUB_BYTE else stored(dtype))
    data = torch.frombuffer(bytearray(raw), dtype=torch.uint8)
    if dtype in SUB_BYTE:
        return unpack(data, dtype, elements).reshape(shape)
    return data.view(stored(dtype)).reshape(shape)


def _expect(fits: bool, where: str, count: int, shape: tuple[int, ...]) -> None:
    if not fits:
        raise ModelError(f"{where}: {count} values are stored for a tensor of shape {shape}")
