"""Integers of 64 bits in a format that has none: what fits in 32 bits stays, what does not is refused by name.

coreai-torch takes the lower 32 bits of each element, so that 2**40 + 3 becomes 3 without a word.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit, modules_of
from builder.errors import ConversionError

_LEAST, _MOST = -(1 << 31), (1 << 31) - 1
_ENDS = (-(1 << 63), (1 << 63) - 1)
"""What stands for no limit in programs of torch; the ends of 32 bits do in theirs."""


def narrow_integers(edit: Edit) -> None:
    """Let constants and numbers be those of 32 bits. Raises ConversionError naming what does not fit."""
    for node in list(edit.graph.nodes):
        value = edit.value(node) if node.op == "placeholder" and node.users else None
        if value is not None and value.dtype is torch.int64 and _is_beyond(value):
            node.replace_all_uses_with(edit.constant(f"{edit.path(node)}@int32", _narrowed(value, edit.path(node))))
    for node in edit.calls():
        if isinstance(node.target, torch._ops.OpOverload):
            node.args = tuple(_number(node, each, place) for place, each in enumerate(node.args))
    edit.finish()


def _is_beyond(value: Tensor) -> bool:
    return bool(((value < _LEAST) | (value > _MOST)).any())


def _narrowed(value: Tensor, path: str) -> Tensor:
    """The ends of 64 bits as those of 32, in the type that torch computes in."""
    beyond = value[(value < _LEAST) | (value > _MOST)]
    other = [each for each in beyond.tolist() if each not in _ENDS]
    if other:
        raise _refused(f"{path.removeprefix('model.')} holds {other[0]}")
    return value.clamp(_LEAST, _MOST)


def _number(node: Node, value: object, place: int) -> Any:
    """A number that an operator computes with; places and sizes (`int` in torch's schema) are no such numbers."""
    if isinstance(value, bool) or not isinstance(value, int) or _LEAST <= value <= _MOST:
        return value
    declared = node.target._schema.arguments[place].type  # type: ignore[union-attr]  # of a call_function node
    if str(declared) not in ("number", "Scalar"):
        return value
    if value in _ENDS:
        return max(_LEAST, min(_MOST, value))
    paths = [path.removeprefix("model.") for path in modules_of(node)]
    where = f" in {paths[-1]}" if paths and paths[-1] else ""
    raise _refused(f"{node.target}{where} computes with {value}")


def _refused(what: str) -> ConversionError:
    return ConversionError(
        f"{what}, and Core AI computes with integers of 32 bits",
        code="B0401",
        hint="let the app compute it, or compute it in floats",
        key="format",
    )
