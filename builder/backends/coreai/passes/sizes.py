"""Arithmetic of sizes as Python has it, where coreai-torch's differs, or has no such operator.

A condition on sizes is a number there, 0 or 1, and what depends on it a sum.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit, dtype_of

_DTYPES: dict[Any, torch.dtype] = {torch.SymInt: torch.int64, torch.SymFloat: torch.float32}
_FILLED = (torch.ops.aten.full.default, torch.ops.aten.full_like.default)
_OF_TENSORS: dict[Any, Any] = {
    **{
        getattr(packet, name): packet.Tensor
        for packet in (
            getattr(torch.ops.aten, name)
            for name in ("add", "sub", "mul", "div", "eq", "ne", "lt", "gt", "le", "ge", "fmod", "remainder")
        )
        for name in ("Scalar", "Tensor")
    },
    torch.ops.aten.pow.Tensor_Scalar: torch.ops.aten.pow.Tensor_Tensor,
    torch.ops.aten.pow.Tensor_Tensor: torch.ops.aten.pow.Tensor_Tensor,
    torch.ops.aten.div.Tensor_mode: torch.ops.aten.div.Tensor_mode,
    torch.ops.aten.floor_divide.default: torch.ops.aten.floor_divide.default,
    torch.ops.aten.clamp.default: torch.ops.aten.clamp.Tensor,
    torch.ops.aten.clamp.Tensor: torch.ops.aten.clamp.Tensor,
}
"""What takes numbers, which sizes are, and its form for tensors."""
_LIMITED = (torch.ops.aten.clamp.default, torch.ops.aten.clamp.Tensor)
_Write = Callable[[Edit, Node], Any]


def exact_sizes(edit: Edit) -> None:
    """Write what coreai-torch lacks by sums, products, floors and the least of two sizes.

    Given:   %r = mod(-L, 4)                            %k = sym_max(8 - L, 0)
    Result:  %q = floordiv(-L, 4); %r = -L - %q 4       %m = sym_min(8 - L, 0); %k = 8 - L + 0 - %m
    """
    for node in edit.calls(*_WRITTEN):
        if isinstance(node.meta.get("val"), torch.Tensor):
            continue
        found = _WRITTEN[node.target](edit, node)
        node.replace_all_uses_with(found)
    for node in edit.calls():
        _as_numbers(edit, node)
    edit.finish()


def _as_numbers(edit: Edit, node: Node) -> None:
    """Let a tensor without axes be computed of sizes as such: coreai-torch has a vector of one for a size.

    Given:   add(%sum: float32[], %size);                              full([2], %size)
    Result:  %s = scalar_tensor(%size);  add(%sum, %s);                mul(full([2], 1), scalar_tensor(%size))
    """
    value = node.meta.get("val")
    if not isinstance(node.target, torch._ops.OpOverload) or not isinstance(value, torch.Tensor):
        return
    if node.target in _FILLED and isinstance(node.args[1], Node):
        ones = edit.before(node, node.target, node.args[0], 1, **node.kwargs)
        filled = edit.before(node, torch.ops.aten.mul.Tensor, ones, _tensor_of(edit, node, node.args[1]))
        node.replace_all_uses_with(filled)
        edit.rename_returned(node, filled)
    elif not value.dim() and any(dtype_of(each) for each in node.all_input_nodes):
        sizes = [each for each in node.all_input_nodes if type(each.meta.get("val")) in _DTYPES]
        if sizes and node.target in _OF_TENSORS:
            for size in sizes:
                node.replace_input_with(size, _tensor_of(edit, node, size))
            if node.target in _LIMITED:
                node.args = tuple(_limit(edit, node, each) for each in node.args)
                node.kwargs = {name: _limit(edit, node, each) for name, each in node.kwargs.items()}
            node.target = _OF_TENSORS[node.target]


def _limit(edit: Edit, node: Node, limit: Any) -> Any:
    """A tensor for a number: between tensors a clamp takes no others."""
    if not isinstance(limit, int | float):
        return limit
    of = node.meta["val"].dtype
    return edit.before(node, torch.ops.aten.scalar_tensor.default, limit, dtype=of)


def _tensor_of(edit: Edit, node: Node, size: Node) -> Node:
    dtype = _DTYPES[type(size.meta["val"])]
    return edit.before(node, torch.ops.aten.scalar_tensor.default, size, dtype=dtype)


def _number(edit: Edit, node: Node, function: Callable[..., Any], *given: Any) -> Any:
    """A number computed of others, of which some may be known."""
    if not any(isinstance(each, Node) for each in given):
        return function(*given)
    return edit.before(node, function, *given)


def _remainder(edit: Edit, node: Node) -> Any:
    """Of a negative size too in the divisor's sign: coreai-torch's has the size's."""
    a, b = node.args
    whole = _number(edit, node, operator.floordiv, a, b)
    return _number(edit, node, operator.sub, a, _number(edit, node, operator.mul, whole, b))


def _greatest(edit: Edit, node: Node) -> Any:
    """`max(a, b) = a + b - min(a, b)`."""
    a, b = node.args
    least = _number(edit, node, torch.sym_min, a, b)
    return _number(edit, node, operator.sub, _number(edit, node, operator.add, a, b), least)


def _size(edit: Edit, node: Node) -> Any:
    """`|a| = a - 2 min(a, 0)`."""
    (a,) = node.args
    twice = _number(edit, node, operator.mul, _number(edit, node, torch.sym_min, a, 0), 2)
    return _number(edit, node, operator.sub, a, twice)


def _sum(edit: Edit, node: Node) -> Any:
    return functools.reduce(lambda a, b: _number(edit, node, operator.add, a, b), node.args[0])  # type: ignore[arg-type]  # a list of sizes


def _above(edit: Edit, node: Node, a: Any, b: Any) -> Any:
    """1 where `a > b`, else 0, of integers: `min(a - b, 1)` that is not below 0."""
    least = _number(edit, node, torch.sym_min, _number(edit, node, operator.sub, a, b), 1)
    below = _number(edit, node, torch.sym_min, least, 0)
    return _number(edit, node, operator.sub, least, below)


def _not(edit: Edit, node: Node, condition: Any) -> Any:
    return _number(edit, node, operator.sub, 1, condition)


def _compared(*, swapped: bool, negated: bool) -> _Write:
    def write(edit: Edit, node: Node) -> Any:
        a, b = reversed(node.args) if swapped else node.args
        above = _above(edit, node, a, b)
        return _not(edit, node, above) if negated else above

    return write


def _equal(*, negated: bool) -> _Write:
    """Neither is above the other."""

    def write(edit: Edit, node: Node) -> Any:
        a, b = node.args
        differ = _number(edit, node, operator.add, _above(edit, node, a, b), _above(edit, node, b, a))
        return differ if negated else _not(edit, node, differ)

    return write


def _negated(edit: Edit, node: Node) -> Any:
    return _not(edit, node, node.args[0])


def _both(edit: Edit, node: Node) -> Any:
    return _number(edit, node, operator.mul, *node.args)


def _either(edit: Edit, node: Node) -> Any:
    a, b = node.args
    return _number(edit, node, operator.sub, _number(edit, node, operator.add, a, b), _both(edit, node))


def _chosen(edit: Edit, node: Node) -> Any:
    """`b + condition (a - b)`."""
    condition, a, b = node.args
    difference = _number(edit, node, operator.sub, a, b)
    return _number(edit, node, operator.add, b, _number(edit, node, operator.mul, condition, difference))


_WRITTEN: dict[Any, _Write] = {
    operator.mod: _remainder,
    torch.sym_max: _greatest,
    operator.abs: _size,
    abs: _size,
    torch.sym_sum: _sum,
    operator.gt: _compared(swapped=False, negated=False),
    operator.lt: _compared(swapped=True, negated=False),
    operator.le: _compared(swapped=False, negated=True),
    operator.ge: _compared(swapped=True, negated=True),
    operator.eq: _equal(negated=False),
    operator.ne: _equal(negated=True),
    torch.sym_not: _negated,
    operator.and_: _both,
    operator.or_: _either,
    torch.sym_ite: _chosen,
    math.floor: lambda edit, node: _number(edit, node, operator.floordiv, node.args[0], 1),
}
"""By function of Python or torch; comparisons are those of integers."""
