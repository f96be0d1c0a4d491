"""What torch computes along an axis of a number, which has none: coreai-torch 0.4.3 fails, or ends its process."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from torch import ops
from torch.fx import Node

from builder.backends.coreai.passes.edit import Edit

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_ALONG = (
    *("all", "any", "amax", "amin", "argmax", "argmin", "max", "min", "median", "kthvalue", "sort", "topk", "squeeze"),
    *("sum", "mean", "prod", "cumprod", "logsumexp", "norm", "linalg_vector_norm", "std", "var", "var_mean"),
    *("count_nonzero", "cummax", "cummin", "softmax", "_softmax", "log_softmax", "_log_softmax", "index_select"),
)
"""Names of operators that work along axes."""


def give_an_axis(program: ExportedProgram) -> int:
    """Change the program, before its decomposition; returns how many operators were given an axis.

    Given:   sum(x, [0]), where x has no axes
    Result:  view(sum(view(x, [1]), [0]), [])
    """
    found = [node for node in program.graph.nodes if node.op == "call_function" and _works_on_one_number(node)]
    if not found:
        return 0
    edit = Edit(program)
    for node in found:
        one = edit.before(node, ops.aten.view.default, node.args[0], [1])
        node.args = (one, *node.args[1:])
        edit.infer(node)
        for result in [node] if isinstance(node.meta["val"], torch.Tensor) else list(node.users):
            if result is not node:
                edit.infer(result)
            if result.meta["val"].dim():
                _take_the_axis(edit, result)
    program.graph_module.recompile()
    return len(found)


def _works_on_one_number(node: Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload) or not node.args or not isinstance(node.args[0], Node):
        return False
    name = str(node.target.overloadpacket).rpartition(".")[2]
    value = node.args[0].meta.get("val")
    users_take = all(user.target is operator.getitem for user in node.users)
    if not isinstance(node.meta.get("val"), torch.Tensor) and not users_take:
        return False
    return name in _ALONG and isinstance(value, torch.Tensor) and not value.dim()


def _take_the_axis(edit: Edit, node: Node) -> None:
    with edit.graph.inserting_after(node):
        bare = edit.graph.call_function(ops.aten.view.default, (node, []))
    bare.meta = {**node.meta, "val": node.meta["val"].reshape(())}
    node.replace_all_uses_with(bare, delete_user_cb=lambda user: user is not bare)
    edit.rename_returned(node, bare)
