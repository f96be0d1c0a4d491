"""Operators on integers and booleans that Core AI has for floats, or for numbers, alone."""

from __future__ import annotations

import torch
from torch import ops
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit, dtype_of

_CASTS = ("_to_copy", "to", "full_like", "zeros_like", "ones_like", "empty_like", "div", "where", "embedding")
"""What makes floats of integers as it is."""
_LOGICAL = {
    ops.aten.mul.Tensor: ops.aten.logical_and.default,
    ops.aten.minimum.default: ops.aten.logical_and.default,
    ops.aten.add.Tensor: ops.aten.logical_or.default,
    ops.aten.maximum.default: ops.aten.logical_or.default,
}
"""Arithmetic of booleans."""
_FLOATS = {torch.float16, torch.float32}
_WHOLE = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_EXTREMA = ("amax", "amin", "max", "min", "argmax", "argmin", "sort", "topk", "cummax", "cummin")


_NARROW = {torch.uint8, torch.int8, torch.int16}
_ARITHMETIC = ("add", "sub", "rsub", "mul", "div", "floor_divide", "neg", "pow", "square", "prod")


def promote(edit: Edit) -> None:
    """Compute in floats what torch computes in them, booleans by logic, and their extrema by integers.

    Integers of 8 and 16 bits go through 32, since coreai-torch mixes the types, and the cast back wraps as torch does.

    Given:   exp(%i : int32);                                  mul(%a : bool, %b : bool)
    Result:  %f = _to_copy(%i, dtype=float32);  exp(%f);       logical_and(%a, %b)
    """
    for node in edit.calls():
        name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
        given = [each for each in node.args if dtype_of(each) is not None]
        types = {dtype_of(each) for each in given}
        value = node.meta.get("val")
        if not types:
            continue
        if types == {torch.bool} and node.target in _LOGICAL and len(given) == 2:
            node.args, node.target = tuple(node.args[:2]), _LOGICAL[node.target]
        elif types == {torch.bool} and name in _EXTREMA:
            _cast(edit, node, torch.int32)
            if isinstance(value, torch.Tensor) and value.dtype is torch.bool:
                _back(edit, node, torch.bool)
        elif name in _ARITHMETIC and dtype_of(node) in _NARROW and isinstance(value, torch.Tensor):
            dtype = value.dtype
            _cast(edit, node, torch.int32)
            _back(edit, node, dtype)
        elif name and name not in _CASTS and dtype_of(node) in _FLOATS and types <= _WHOLE:
            _cast(edit, node, torch.float32)
    edit.finish()


def _cast(edit: Edit, node: Node, to: torch.dtype) -> None:
    """Give the operator all its tensors in another type."""
    node.args = tuple(
        edit.before(node, ops.aten._to_copy.default, each, dtype=to) if dtype_of(each) is not None else each
        for each in node.args
    )
    edit.infer(node)


def _back(edit: Edit, node: Node, dtype: torch.dtype) -> None:
    """Let what follows have that type again."""
    users = list(node.users)
    with edit.graph.inserting_after(node):
        cast = edit.graph.call_function(ops.aten._to_copy.default, (node,), {"dtype": dtype})
    edit.infer(cast)
    for user in users:
        user.replace_input_with(node, cast)
    edit.rename_returned(node, cast)
