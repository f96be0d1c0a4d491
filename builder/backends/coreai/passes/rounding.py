"""Rounding of what has no fraction: Core AI rounds by a division, which is NaN of infinity."""

from __future__ import annotations

from collections.abc import Callable

from torch import inf, ops
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit, dtype_of

_ROUNDED = (ops.aten.floor.default, ops.aten.ceil.default, ops.aten.trunc.default)
_WHOLE = float(1 << 23)
"""From here on float32 has no fractions; half precision, in which this is infinite, has none far below."""


def guard_rounding(edit: Edit) -> None:
    """Leave numbers without fractions as they are, and let quotients by infinity be those of torch.

    Given:   floor(x);                                 floor_divide(x, y)
    Result:  where(|x| < 2^23, floor(x), x);           where(|x| < inf & |y| = inf & x y < 0, -1, floor_divide(x, y))
    """
    for node in edit.calls(*_ROUNDED):
        x = node.args[0]
        if _is_float(x):
            small = edit.before(node, ops.aten.lt.Scalar, edit.before(node, ops.aten.abs.default, x), _WHOLE)
            _choose(edit, node, small, edit.before(node, _function(node), x), x)
    for node in edit.calls(ops.aten.floor_divide.default, ops.aten.div.Tensor_mode):
        x, y = node.args[:2]
        rounded = node.target is ops.aten.floor_divide.default or node.kwargs.get("rounding_mode") == "floor"
        if not rounded or not _is_float(x) or not _is_float(y) or edit.value(y) is not None:
            continue
        sizes = [edit.before(node, ops.aten.abs.default, each) for each in (x, y)]
        found = [
            edit.before(node, ops.aten.lt.Scalar, sizes[0], inf),
            edit.before(node, ops.aten.eq.Scalar, sizes[1], inf),
            edit.before(node, ops.aten.lt.Scalar, edit.before(node, ops.aten.mul.Tensor, x, y), 0.0),
        ]
        both = edit.before(node, ops.aten.logical_and.default, *found[:2])
        infinite = edit.before(node, ops.aten.logical_and.default, both, found[2])
        quotient = edit.before(node, _function(node), x, y, **node.kwargs)
        below = edit.before(node, ops.aten.full_like.default, quotient, -1.0)
        _choose(edit, node, infinite, below, quotient)
    edit.finish()


def _function(node: Node) -> Callable[..., object]:
    assert callable(node.target), "a call has a function"
    return node.target


def _is_float(x: object) -> bool:
    dtype = dtype_of(x)
    return dtype is not None and dtype.is_floating_point


def _choose(edit: Edit, node: Node, condition: Node, chosen: Node, other: object) -> None:
    """Let what uses `node` use one of both."""
    found = edit.before(node, ops.aten.where.self, condition, chosen, other)
    node.replace_all_uses_with(found)
    edit.rename_returned(node, found)
