"""Tidies what torch's loops take from the program around them: once, and only what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch.fx import GraphModule, Node

if TYPE_CHECKING:
    from torch.export import ExportedProgram

_LOOP = torch.ops.higher_order.while_loop


def close_loops(program: ExportedProgram) -> None:
    """Change the program in place, loops within loops too, the inner ones first.

    Given   while_loop(cond, body, (i, x), (x, n, unused, n))
    Result  while_loop(cond, body, (i, x), (x, n))
    """
    _close(program.graph_module)


def _close(module: GraphModule) -> None:
    for node in [each for each in module.graph.nodes if each.target is _LOOP]:
        parts = [cast(GraphModule, getattr(module, str(each.target))) for each in node.args[:2]]
        for part in parts:
            _close(part)
        _drop_unused(node, parts)
        for part in parts:
            part.graph.lint()
            part.recompile()


def _inputs(part: GraphModule) -> list[Node]:
    return [node for node in part.graph.nodes if node.op == "placeholder"]


def _drop_unused(loop: Node, parts: list[GraphModule]) -> None:
    """Take out what neither graph reads, and what is given twice."""
    first, second, values, outer = cast("tuple[Node, Node, tuple[Any, ...], tuple[Any, ...]]", loop.args)
    carried = len(values)
    for part in parts:
        part.graph.eliminate_dead_code()
    kept: list[Any] = []
    taken = [_inputs(part)[carried:] for part in parts]
    for value, *inner in zip(outer, *taken, strict=True):
        if value in kept:
            place = kept.index(value)
            for part, node in zip(parts, inner, strict=True):
                node.replace_all_uses_with(_inputs(part)[carried + place])
        used = any(node.users for node in inner)
        if used:
            kept.append(value)
            continue
        for part, node in zip(parts, inner, strict=True):
            part.graph.erase_node(node)
    loop.args = (first, second, values, tuple(kept))
