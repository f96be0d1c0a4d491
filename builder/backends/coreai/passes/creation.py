"""What a program computes of no input and no weight becomes a constant, in the precision in which it was written."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node
from torch.utils._pytree import tree_leaves, tree_map_only

from builder.backends.coreai.passes.edit import Edit

_MOST = 1 << 22
"""Elements of a value that is computed here; larger ones stay for the program to compute."""


def fold_created(edit: Edit) -> int:
    """Put a constant in the place of each float tensor that follows from numbers alone; returns how many.

    Given    cos(arange(300, dtype=float64) * arange(151, dtype=float64) * w)
    Result   a constant: in half precision the products overflow, and the angles have no digits left

    Tensors of one number, and integers, stay: they are exact, and a constant would take more room.
    """
    known: dict[Node, Any] = {}
    for node in edit.calls():
        if _is_created(node, known):
            arguments, named = tree_map_only(Node, known.__getitem__, (node.args, node.kwargs))
            known[node] = node.target(*arguments, **named)  # type: ignore[operator]  # of a call_function node
    folded = 0
    for node, value in known.items():
        outside = [user for user in node.users if user not in known]
        if not outside or not _is_worth(value):
            continue
        constant = edit.constant("computed", value)
        node.replace_all_uses_with(constant, delete_user_cb=lambda user: user not in known)
        edit.rename_returned(node, constant)
        folded += 1
    if folded:
        edit.finish()
    return folded


def _is_created(node: Node, known: dict[Node, object]) -> bool:
    """Whether a node's value follows from those that are known, the same on every run and not too large."""
    if not isinstance(node.target, torch._ops.OpOverload) and "getitem" not in node.name:
        return False
    if isinstance(node.target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags:
        return False
    given = (node.args, node.kwargs)
    if any(isinstance(each, torch.SymInt) for each in tree_leaves(given)):
        return False
    if not all(each in known for each in tree_leaves(given) if isinstance(each, Node)):
        return False
    made = [each for each in tree_leaves(node.meta.get("val")) if isinstance(each, torch.Tensor)]
    return bool(made) and all(isinstance(n, int) for each in made for n in each.shape) and _size(made) <= _MOST


def _size(made: list[torch.Tensor]) -> int:
    return sum(each.numel() for each in made)


def _is_worth(value: object) -> bool:
    return (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.numel() > 1
        and not bool((value == value.reshape(-1)[0]).all())
    )
