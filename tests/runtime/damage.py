"""Damages the specification of a model at random places, each field in every way that its type allows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

NUMBERS = (0, 1, 2, 5, 63, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -1, -(2**31))
_BITS = {FieldDescriptor.CPPTYPE_INT32: 31, FieldDescriptor.CPPTYPE_INT64: 63}
_UNSIGNED = {FieldDescriptor.CPPTYPE_UINT32: 32, FieldDescriptor.CPPTYPE_UINT64: 64}


def messages(message: Message) -> Iterator[Message]:
    """The message and every message in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                for key in sorted(value):
                    yield from messages(value[key])
        elif field.is_repeated:
            for each in value:
                yield from messages(each)
        else:
            yield from messages(value)


def damage(specification: Message, seed: int) -> str:
    """Change one field in place, chosen by the seed; returns what was done."""
    chance = random.Random(seed)
    targets = [message for message in messages(specification) if message.ListFields()]
    message = chance.choice(targets)
    field, value = chance.choice(message.ListFields())
    where = f"{message.DESCRIPTOR.name}.{field.name}"
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key = chance.choice(sorted(value))
        if chance.random() < 0.5 or field.message_type.fields_by_name["value"].message_type is None:
            del value[key]
            return f"{where}[{key!r}] deleted"
        value[chance.choice(["", "x", "weight", "main"])].CopyFrom(value[key])
        return f"{where}[{key!r}] copied"
    if field.is_repeated:
        return f"{where}: {_damage_list(value, field, chance)}"
    if field.message_type is not None or chance.random() < 0.2:
        message.ClearField(field.name)
        return f"{where} cleared"
    new = _other(field, value, chance)
    setattr(message, field.name, new)
    return f"{where} = {new!r}"


def _damage_list(values: Any, field: Any, chance: random.Random) -> str:
    index = chance.randrange(len(values))
    action = chance.choice(["delete", "duplicate", "reverse"] if field.message_type else ["delete", "change"])
    if action == "delete":
        del values[index]
    elif action == "change":
        values[index] = _other(field, values[index], chance)
    else:
        kept = [type(each).FromString(each.SerializeToString()) for each in values]
        kept = [*kept, kept[index]] if action == "duplicate" else kept[::-1]
        del values[:]
        values.extend(kept)
    return f"{action} {index}"


def _other(field: Any, value: Any, chance: random.Random) -> Any:
    """Another value that the field's type can hold."""
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return not value
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return chance.choice([entry.number for entry in field.enum_type.values])
    if kind in _BITS:
        return chance.choice([n for n in NUMBERS if -(2 ** _BITS[kind]) <= n < 2 ** _BITS[kind]])
    if kind in _UNSIGNED:
        return chance.choice([n for n in NUMBERS if 0 <= n < 2 ** _UNSIGNED[kind]])
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return chance.choice([0.0, -1.0, float("inf"), float("nan"), 1e30])
    if isinstance(value, bytes):
        return chance.choice([b"", value[:-1], value + b"\x00", value * 1000, b"\xff" * len(value)])
    return chance.choice(["", "x", "no_such_name", value + "x", "../../etc/passwd", "@model_path/../x"])
