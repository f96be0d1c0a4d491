"""NaN as the greatest of all numbers, as torch has it: Core AI passes it over where it puts numbers in order."""

from __future__ import annotations

import operator

from torch import inf, ops
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit, dtype_of


def nan_is_greatest(edit: Edit) -> None:
    """Let infinity stand for NaN where numbers are put in order, and take what is there from the numbers themselves.

    Given:   argmax(x, 1);                                  topk(x, 3)
    Result:  argmax(where(x == x, x, inf), 1);              topk(where(x == x, x, inf), 3);  gather(x, -1, its places)
    """
    for node in edit.calls(ops.aten.argmax.default):
        if _is_float(node.args[0]):
            node.args = (_known(edit, node), *node.args[1:])
    for node in edit.calls(ops.aten.topk.default):
        x, _, dim, largest = (*node.args, -1, True)[:4] if len(node.args) == 2 else (*node.args, True)[:4]
        if not _is_float(x) or not largest:
            continue
        node.args = (_known(edit, node), *node.args[1:])
        for values in [user for user in node.users if user.target is operator.getitem and user.args[1] == 0]:
            places = edit.before(values, operator.getitem, node, 1)
            taken = edit.before(values, ops.aten.gather.default, x, dim, places)
            values.replace_all_uses_with(taken)
            edit.rename_returned(values, taken)
    edit.finish()


def _is_float(x: object) -> bool:
    dtype = dtype_of(x)
    return dtype is not None and dtype.is_floating_point


def _known(edit: Edit, node: Node) -> Node:
    x = node.args[0]
    infinite = edit.before(node, ops.aten.full_like.default, x, inf)
    return edit.before(node, ops.aten.where.self, edit.before(node, ops.aten.eq.Tensor, x, x), x, infinite)
