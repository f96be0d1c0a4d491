"""What the types and attributes of Core AI's dialect on disk, `aicode`, mean; nothing else knows their numbers.

The numbers were found by writing files with coreai-core 1.0.0b3 and comparing them with the text that it prints.
"""

from __future__ import annotations

from dataclasses import dataclass

from coreml_runtime.coreai.bytecode import Container, Span
from coreml_runtime.coreai.cursor import Cursor
from coreml_runtime.errors import ModelError
from coreml_runtime.ops.context import TensorType

DIALECT = "aicode"
_TENSOR, _SPARSE_TENSOR, _HANDLE, _TOKEN = 2, 3, 31, 32
_DYNAMIC = -(2**63)
_MAXIMUM_RANK = 32

ELEMENTS = {
    4: "bool", 5: "fp64", 6: "fp32", 7: "fp16", 8: "bf16", 9: "fp8e5m2", 10: "fp8e4m3", 12: "complex64",
    13: "complex32", 17: "int64", 18: "int32", 19: "int16", 20: "int8", 21: "int4", 22: "int2", 23: "uint64",
    24: "uint32", 25: "uint16", 26: "uint8", 27: "uint4", 28: "uint2", 29: "uint1", 36: "uint6", 37: "uint3",
    46: "fp4e2m1", 47: "fp8e8m0",
}  # fmt: skip
"""The dialect's numbers of element types, by the names that the runtime has for them."""

_ENUMERATIONS = {
    17: ("circular", "constant", "reflect", "replicate", "symmetric"),
    19: ("none", "tanh", "sigmoid"),
    20: ("update", "add", "sub", "mul", "div", "max", "min"),
    25: ("sum", "product", "min", "max"),
    43: ("linear", "nearest_neighbor"),
}
"""Attributes that choose one of a list: padding mode, approximation of gelu, mode of a scatter, combiner of a
scan, interpolation mode."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HandleType:
    """A reference to a tensor that outlives a prediction: a state."""

    inner: TensorType


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenType:
    """The order of reads and writes of states: no value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseType:
    """A tensor that only stores what is not zero."""

    dense: TensorType


@dataclass(frozen=True, kw_only=True, slots=True)
class UnknownType:
    """A type that the runtime does not know; `text` names it in messages."""

    text: str


GraphType = TensorType | HandleType | TokenType | SparseType | UnknownType


@dataclass(frozen=True, kw_only=True, slots=True)
class Dense:
    """Elements in the table of attributes: one byte at least for each, of one element if `splat`."""

    span: Span
    splat: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Blob:
    """Elements in a resource."""

    resource: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One word of a list."""

    word: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A named attribute: an entry of a dictionary."""

    name: str
    value: Attribute


@dataclass(frozen=True, kw_only=True, slots=True)
class Symbol:
    """The name of a graph."""

    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Opaque:
    """An attribute that the runtime has no use for."""

    kind: int


Attribute = Dense | Blob | Choice | Pair | Symbol | Opaque | int | str | tuple["Attribute", ...]


class Decoder:
    """Decodes the types and attributes of one file, each once."""

    def __init__(self, container: Container) -> None:
        """Nothing is decoded yet."""
        self.container = container
        self._types: dict[int, GraphType] = {}
        self._attributes: dict[int, Attribute] = {}

    def type(self, place: int) -> GraphType:
        """The type at a place of the table."""
        if place not in self._types:
            self._types[place] = self._read_type(place)
        return self._types[place]

    def attribute(self, place: int, depth: int = 0) -> Attribute:
        """The attribute at a place of the table."""
        if depth > 32:
            raise ModelError("attributes are nested more than 32 deep")
        if place not in self._attributes:
            self._attributes[place] = self._read_attribute(place, depth)
        return self._attributes[place]

    def properties(self, span: Span | None) -> Cursor:
        """The attributes of an operation, in its order, to be read with `next_attribute`."""
        begin, end = span or (0, 0)
        return Cursor(self.container.data, begin, end)

    def next_attribute(self, cursor: Cursor) -> Attribute:
        """The attribute that comes next among an operation's."""
        return self.attribute(cursor.index(len(self.container.attributes), "attribute"))

    def _read_type(self, place: int) -> GraphType:
        cursor = Cursor(self.container.data, *self.container.types[place])
        kind = cursor.integer()
        if kind == _TENSOR:
            return self._read_tensor(cursor)
        if kind == _SPARSE_TENSOR:
            dense = self._read_tensor(cursor)
            return SparseType(dense=dense) if isinstance(dense, TensorType) else dense
        if kind == _HANDLE:
            inner = self.type(self._inner(cursor, place))
            if not isinstance(inner, TensorType):
                raise ModelError(f"a state holds {inner}, not a tensor")
            return HandleType(inner=inner)
        if kind == _TOKEN:
            return TokenType()
        return UnknownType(text=f"type {kind} of {DIALECT}")

    def _inner(self, cursor: Cursor, place: int) -> int:
        """A type that a type is made of; those come in any order, so a circle has to be excluded."""
        found = cursor.index(len(self.container.types), "type")
        kind = Cursor(self.container.data, *self.container.types[found]).integer()
        if found == place or kind not in (_TENSOR, *ELEMENTS):
            raise ModelError(f"type {place} is made of type {found}, which is of kind {kind}")
        return found

    def _read_tensor(self, cursor: Cursor) -> TensorType | UnknownType:
        rank = cursor.count()
        if rank > _MAXIMUM_RANK:
            raise ModelError(f"a tensor of rank {rank}")
        sizes = tuple(cursor.signed() for _ in range(rank))
        if any(size < 0 and size != _DYNAMIC for size in sizes):
            raise ModelError(f"a tensor of shape {sizes}")
        place = cursor.index(len(self.container.types), "type")
        element = Cursor(self.container.data, *self.container.types[place]).integer()
        if element not in ELEMENTS:
            return UnknownType(text=f"tensor of type {element} of {DIALECT}")
        shape = tuple(None if size == _DYNAMIC else size for size in sizes)
        return TensorType(dtype=ELEMENTS[element], shape=shape)

    def _read_attribute(self, place: int, depth: int) -> Attribute:
        begin, end = self.container.attributes[place]
        cursor = Cursor(self.container.data, begin, end)
        kind = cursor.integer()
        if kind == 1:
            return self.container.strings[cursor.index(len(self.container.strings), "text")]
        if kind == 5:
            places = [self._place(cursor) for _ in range(cursor.count())]
            return tuple(self.attribute(each, depth + 1) for each in places)
        if kind == 6:
            splat = bool(cursor.byte())
            size = cursor.integer()
            first = cursor.skip(size)
            return Dense(span=(first, first + size), splat=splat)
        if kind == 7:
            return Blob(resource=cursor.index(len(self.container.resources), "resource"))
        if kind == 9:
            name = self.container.strings[cursor.index(len(self.container.strings), "text")]
            cursor.integer()
            return Pair(name=name, value=self.attribute(self._place(cursor), depth + 1))
        if kind == 2:
            return _read_number(cursor)
        if kind == 14:
            cursor.integer()
            return Symbol(name=self.container.strings[cursor.index(len(self.container.strings), "text")])
        if kind == 16:
            return self.attribute(self._place(cursor), depth + 1)
        if kind in _ENUMERATIONS:
            words = _ENUMERATIONS[kind]
            return Choice(word=words[cursor.index(len(words), "choice")])
        return Opaque(kind=kind)

    def _place(self, cursor: Cursor) -> int:
        return cursor.index(len(self.container.attributes), "attribute")


def _read_number(cursor: Cursor) -> int:
    """An integer attribute: its width, its signedness in one byte, its value."""
    width, _ = cursor.integer(), cursor.byte()
    return cursor.byte() if width <= 8 else cursor.signed()
