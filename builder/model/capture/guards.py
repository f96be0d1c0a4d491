"""Exports at sizes that the app chooses, where torch.export is not sure that the code runs in one way at all of them.

It proves conditions on sizes by algebra, and refuses `x[:, size // 2 :]`, of which it cannot prove `size // 2 <= size`.
Here such a program keeps its conditions, which are then held against the sizes themselves (`conditions.py`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.exc import UserError
from torch.fx import Node

from builder.model.capture.conditions import drop_conditions, is_always

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph


def export_program(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any) -> ExportedProgram:
    """`torch.export.export` with the dimensions `shapes` open; raises what that raises.

    Where it refuses conditions on sizes, the program rests on them, and whoever calls must hold them against the
    sizes. Quotients of sizes are integers.
    """
    if shapes is None:
        return torch.export.export(module, inputs)
    try:
        program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    except UserError as error:
        try:
            program = torch.export.export(
                module, inputs, dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
            )
        except Exception:  # torch has many types of its own
            raise error from None
    _tidy(program)
    return program


def export_narrowly(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], ranges: tuple[Mapping[int, tuple[int, int]], ...]
) -> ExportedProgram:
    """The program for those sizes for which it is true, and with each condition: which `export_program` may refuse.

    `ranges` are the sizes that the app may choose, by input and axis.
    """
    dimensions: Any = torch.export.Dim
    shapes = tuple({axis: dimensions.AUTO(min=low, max=high) for axis, (low, high) in each.items()} for each in ranges)
    return torch.export.export(module, inputs, dynamic_shapes=(shapes,))


def _tidy(program: ExportedProgram) -> None:
    """Take out the assertions, and write rounded quotients of sizes in integers, as torch can store them.

    Given:   truediv(%size, 3);  ceil(…)
    Result:  add(%size, 2);  floordiv(…, 3)
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target in _ROUNDED and _is_quotient(node.args[0]):
            with graph.inserting_before(node):
                node.replace_all_uses_with(_rounded(graph, program, node.target, *node.args[0].args))
    drop_conditions(program)


_ROUNDED = (math.ceil, math.floor, math.trunc)


def _rounded(graph: Graph, program: ExportedProgram, rounding: Any, number: Node, divisor: int) -> Node:
    """The quotient in integers; `trunc` of one that may be negative is made of its parts above and below 0."""
    if rounding is math.ceil:
        return _computed(graph, operator.floordiv, _computed(graph, operator.add, number, divisor - 1), divisor)
    bounds = program.range_constraints
    if rounding is math.floor or is_always(number.meta["val"].node.expr >= 0, bounds):
        return _computed(graph, operator.floordiv, number, divisor)
    above = _computed(graph, torch.sym_max, number, 0)
    below = _computed(graph, operator.sub, above, number)
    parts = [_computed(graph, operator.floordiv, part, divisor) for part in (above, below)]
    return _computed(graph, operator.sub, *parts)


def _computed(graph: Graph, function: Any, number: Node, other: Node | int) -> Node:
    node = graph.call_function(function, (number, other))
    node.meta["val"] = function(*(given.meta["val"] if isinstance(given, Node) else given for given in node.args))
    return node


def _is_quotient(node: Any) -> bool:
    """Whether it is an integer of sizes by a positive number."""
    if getattr(node, "target", None) is not operator.truediv:
        return False
    number, divisor = node.args
    is_open = isinstance(number, Node) and isinstance(number.meta.get("val"), torch.SymInt)
    return is_open and isinstance(divisor, int) and divisor > 0
