"""Cuts the weights out of the bytes of a neural network, so that protobuf parses what is left and copies none of them.

Given   … WeightParams{floatValue: 400 MB} …
Result  … WeightParams{MARKER: (number of the field, where its bytes lie in the file, how many)} …

protobuf copies a message when it parses it and again for each field that is read: three times the weights.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from coreml_runtime.mapping import Buffer
from coreml_runtime.proto import messages

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor
    from google.protobuf.message import Message


MARKER = 19_000
"""The field that stands for a cut one. protobuf keeps the numbers from 19000 to 19999 to itself: no schema has them."""

_RECORD = struct.Struct("<BQQ")
_PAYLOADS = frozenset({1, 2, 30, 31})
"""WeightParams: floatValue, float16Value, rawValue, int8RawValue."""
_SMALLEST = 1 << 12
"""Bytes from which a payload is cut out; smaller ones cost nothing."""
_MOST_FIELDS = 1 << 16
"""Fields that are looked at before the file is left to protobuf, which reads many small ones faster than Python."""
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10


class _LeaveToProtobufError(Exception):
    """The bytes are damaged or written in an unusual way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """A message type: the fields through which weights are reached, those that may occur once, and if it is one."""

    inner: Mapping[int, str]
    single: frozenset[int]
    is_weights: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Field:
    number: int
    wire: int
    start: int
    """Of the tag."""
    value: int
    """Of what a field of known length holds."""
    end: int


def cut_weights(content: Buffer) -> bytes | None:
    """A Model message's bytes without its large weights; None where there are none, or protobuf has to decide.

    protobuf decides on all that is damaged or unusual (a weight in several parts, a list of unpacked numbers), so
    that its errors and its meaning hold.
    """
    walk = _Walk(content=memoryview(content))
    try:
        parts = walk.message(0, len(content), "CoreML.Specification.Model")
    except (_LeaveToProtobufError, RecursionError):
        return None
    return b"".join(parts) if walk.cuts else None


def markers(message: Message) -> Iterator[tuple[int, int, int]]:
    """What was cut out of a WeightParams message: (number of the field, start, size)."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    for field in UnknownFieldSet(message):
        if field.field_number == MARKER:
            yield _RECORD.unpack(field.data)


@dataclass(kw_only=True, slots=True)
class _Walk:
    content: memoryview
    cuts: int = 0
    fields: int = 0

    def message(self, start: int, end: int, name: str) -> list[bytes | memoryview]:
        """The parts that the message between two offsets comes to."""
        kind, seen = _kinds()[name], set()
        parts: list[bytes | memoryview] = []
        for field in self._fields(start, end):
            if field.number in kind.single:
                if field.number in seen:
                    raise _LeaveToProtobufError
                seen.add(field.number)
            if field.number in kind.inner and field.wire == _LENGTH:
                inner = self.message(field.value, field.end, kind.inner[field.number])
                parts += [_tag(field.number), _varint(sum(map(len, inner))), *inner]
            elif kind.is_weights and self._is_payload(field):
                record = _RECORD.pack(field.number, field.value, field.end - field.value)
                parts += [_tag(MARKER), _varint(len(record)), record]
                self.cuts += 1
            else:
                parts.append(self.content[field.start : field.end])
        return parts

    @staticmethod
    def _is_payload(field: _Field) -> bool:
        if field.number == MARKER or (field.number in _PAYLOADS and field.wire != _LENGTH):
            raise _LeaveToProtobufError
        return field.number in _PAYLOADS and field.end - field.value >= _SMALLEST

    def _fields(self, position: int, end: int) -> Iterator[_Field]:
        while position < end:
            self.fields += 1
            start = position
            key, position = self._read_varint(position)
            wire, value = key & 7, position
            if wire == _LENGTH:
                size, value = self._read_varint(position)
                position = value + size
            elif wire == _VARINT:
                _, position = self._read_varint(position)
            elif wire in (_FIXED64, _FIXED32):
                position += 8 if wire == _FIXED64 else 4
            else:
                raise _LeaveToProtobufError
            if position > end or self.fields > _MOST_FIELDS:
                raise _LeaveToProtobufError
            yield _Field(number=key >> 3, wire=wire, start=start, value=value, end=position)

    def _read_varint(self, position: int) -> tuple[int, int]:
        """The number at an offset, and the offset after it."""
        value = shift = 0
        for byte in self.content[position : position + _LONGEST_VARINT]:
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, position
            shift += 7
        raise _LeaveToProtobufError


def _tag(number: int) -> bytes:
    return _varint(number << 3 | _LENGTH)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


@cache
def _kinds() -> dict[str, _Kind]:
    """Every message type through which a Model reaches weights."""
    weights = messages("NeuralNetwork_pb2").WeightParams.DESCRIPTOR
    reached: dict[str, Descriptor] = {}
    waiting = [messages("Model_pb2").Model.DESCRIPTOR]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.full_name not in reached:
            reached[descriptor.full_name] = descriptor
            waiting += [field.message_type for field in descriptor.fields if field.message_type is not None]
    leading = {weights.full_name}
    while more := {
        name
        for name, descriptor in reached.items()
        if name not in leading and any(_type(field) in leading for field in descriptor.fields)
    }:
        leading |= more
    return {
        name: _Kind(
            inner={field.number: _type(field) for field in reached[name].fields if _type(field) in leading},
            single=_PAYLOADS if name == weights.full_name else _single(reached[name], leading),
            is_weights=name == weights.full_name,
        )
        for name in leading
    }


def _single(descriptor: Descriptor, leading: set[str]) -> frozenset[int]:
    """Fields that lead to weights and are not a list: protobuf merges them where a file has them twice."""
    return frozenset(field.number for field in descriptor.fields if _type(field) in leading and not field.is_repeated)


def _type(field: FieldDescriptor) -> str:
    return "" if field.message_type is None else str(field.message_type.full_name)
