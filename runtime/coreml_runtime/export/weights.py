"""What a program calls the constants that each of its operators reads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message


Shape = tuple[int, ...]
_STORED = ("const", "constexpr_")


def weight_names(function: Message) -> dict[str, tuple[tuple[str, Shape], ...]]:
    """From a Function message: by the name of an operator's first output, its constants with their shapes.

    Those of nested blocks belong to the operator around them.
    """
    found: dict[str, tuple[tuple[str, Shape], ...]] = {}
    known: dict[str, Shape] = {}
    for block in function.block_specializations.values():
        for operation in block.operations:
            _collect(operation, known)
            if operation.outputs:
                names = dict.fromkeys(_read(operation))
                found[operation.outputs[0].name] = tuple((name, known[name]) for name in names if name in known)
    return found


_TYPES = {10: "fp16", 11: "fp32"}
"""MIL.proto's numbers of the types that are computed in."""


def precisions(function: Message) -> dict[str, str]:
    """By the name of an operator's first output, fp16 or fp32 where it computes in one of them; casts do in neither."""
    found = {}
    for block in function.block_specializations.values():
        for operation in block.operations:
            if operation.outputs and operation.type != "cast" and not operation.type.startswith(_STORED):
                type_ = _TYPES.get(operation.outputs[0].type.tensorType.dataType)
                if type_ is not None:
                    found[operation.outputs[0].name] = type_
    return found


def _collect(operation: Message, known: dict[str, Shape]) -> None:
    if operation.type.startswith(_STORED):
        for output in operation.outputs:
            sizes = output.type.tensorType.dimensions
            known[output.name] = tuple(int(size.constant.size) for size in sizes)
    for block in operation.blocks:
        for inner in block.operations:
            _collect(inner, known)


def _read(operation: Message) -> Iterator[str]:
    for key in sorted(operation.inputs):
        yield from (argument.name for argument in operation.inputs[key].arguments if argument.name)
    for block in operation.blocks:
        for inner in block.operations:
            yield from _read(inner)
