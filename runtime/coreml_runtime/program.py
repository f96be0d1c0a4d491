"""An ML program as frozen data: functions, blocks, operations and values, free of protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from coreml_runtime.ops.context import TensorType
from coreml_runtime.ops.table import Value


@dataclass(frozen=True, kw_only=True, slots=True)
class ListType:
    """A list of values of one type; `length` is None when it changes."""

    element: ValueType
    length: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class TupleType:
    """A tuple of values."""

    elements: tuple[ValueType, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class DictionaryType:
    """A dictionary, as `classify` returns for the class probabilities."""

    key: ValueType
    value: ValueType


@dataclass(frozen=True, kw_only=True, slots=True)
class StateType:
    """A reference to a tensor that outlives one prediction."""

    wrapped: TensorType


ValueType = TensorType | ListType | TupleType | DictionaryType | StateType


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An argument that an earlier operation or an input defines."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """An argument that the file holds: a tensor, text, or a tuple of such."""

    value: Value
    type: ValueType


@dataclass(frozen=True, kw_only=True, slots=True)
class Named:
    """A name and its declared type."""

    name: str
    type: ValueType


Argument = tuple[Reference | Constant, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """One operation. Attributes that are values (iOS16 constexpr parameters) stand among `inputs`."""

    type: str
    name: str
    inputs: Mapping[str, Argument]
    outputs: tuple[Named, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """Operations in order of execution, and the names that the block returns."""

    inputs: tuple[Named, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """One entry point; `opset` is the lower-case iOS name."""

    name: str
    opset: str
    inputs: tuple[Named, ...]
    block: Block
