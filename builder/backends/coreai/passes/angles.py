"""Angles from exact numbers, for which half precision is too coarse: as in ML programs (decision 0220)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.fx import Node

from builder.backends.coreai.passes.edit import dtype_of

ANGLES = {"sin", "cos"}
_MAKES = {
    "_to_copy", "_unsafe_view", "add", "addmm", "bmm", "cat", "clamp", "clone", "cumsum", "div", "expand", "floor",
    "gather", "index", "index_select", "mm", "mul", "outer", "permute", "remainder", "repeat", "reshape", "rsub",
    "select", "slice", "squeeze", "stack", "sub", "t", "to", "transpose", "unsqueeze", "upsample_bilinear2d",
    "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d", "view", "where",
}  # fmt: skip
"""What an angle is made by: operators of torch's."""


def angle_selector() -> Callable[[Node], bool]:
    """Whether an operator is a sine or cosine of an angle from exact numbers, or makes such an angle."""
    exact: dict[Node, bool] = {}
    leads: dict[Node, bool] = {}

    def is_exact(node: Node) -> bool:
        if node not in exact:
            made = _name(node) in _MAKES and all(map(is_exact, node.all_input_nodes))
            exact[node] = node.op in ("placeholder", "get_attr") or not _is_float(node) or made
        return exact[node]

    def is_angle(node: Node) -> bool:
        name = _name(node)
        if name not in ANGLES | _MAKES:
            return False
        if node not in leads:
            leads[node] = all(map(is_exact, node.all_input_nodes)) and (
                name in ANGLES or any(map(is_angle, node.users))
            )
        return leads[node]

    return is_angle


def _name(node: Node) -> str:
    return node.target._schema.name.partition("::")[2] if isinstance(node.target, torch._ops.OpOverload) else ""


def _is_float(node: Node) -> bool:
    found = dtype_of(node)
    return found is not None and found.is_floating_point
