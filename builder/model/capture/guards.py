"""Exports at sizes that the app chooses, where torch.export is not sure that the code runs in one way at all of them.

It proves conditions on sizes by algebra, and refuses `x[:, size // 2 :]`, of which it cannot prove `size // 2 <= size`.
Here each condition is held against the sizes themselves.
"""

from __future__ import annotations

import itertools
import math
import operator
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch._dynamo.exc import UserError

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph, Node

_MOST = 1024
"""Sizes, or combinations of several, at which a condition is tried; each takes 0.3 ms."""
_ASSERT = torch.ops.aten._assert_scalar.default


def export_program(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any) -> ExportedProgram:
    """`torch.export.export` with the dimensions `shapes` open; raises what that raises.

    Where it refuses conditions on sizes that hold at all sizes, they are left out; quotients of sizes are integers.
    """
    if shapes is None:
        return torch.export.export(module, inputs)
    try:
        program = torch.export.export(module, inputs, dynamic_shapes=shapes)
    except UserError:
        found = _with_conditions(module, inputs, shapes)
        if found is None or not _holds(found):
            raise
        program = found
    _tidy(program)
    return program


def _with_conditions(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any) -> ExportedProgram | None:
    """The program with its conditions on sizes as assertions; None where there is none, for the reason known before."""
    try:
        return torch.export.export(
            module, inputs, dynamic_shapes=shapes, prefer_deferred_runtime_asserts_over_guards=True
        )
    except Exception:  # torch has many types of its own
        return None


def _holds(program: ExportedProgram) -> bool:
    """Whether all that torch took for true of sizes is true at those that the program takes.

    Its own assertions are fewer: a size that was rounded to a number has none.
    """
    bounds = program.range_constraints.items()
    ranges = {symbol: range(int(given.lower), int(given.upper) + 1) for symbol, given in bounds}
    known = next((size.node.shape_env for size in _open_sizes(program)), None)
    if known is None:
        return False
    conditions = {guard.expr for guard in known.guards}
    conditions |= {each.expr for deferred in known.deferred_runtime_asserts.values() for each in deferred}
    return all(_is_true(condition, ranges) for condition in conditions)


def _open_sizes(program: ExportedProgram) -> Iterator[Any]:
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.Tensor):
            yield from (size for size in value.shape if isinstance(size, torch.SymInt))


def _is_true(condition: Any, ranges: dict[Any, range]) -> bool:
    symbols = sorted(condition.free_symbols, key=str)
    if not set(symbols) <= ranges.keys():
        return False
    return all(
        condition.subs(dict(zip(symbols, sizes, strict=True))) == True  # noqa: E712 - sympy's, or what it cannot decide
        for sizes in _combinations([ranges[symbol] for symbol in symbols])
    )


def _combinations(ranges: list[range]) -> Iterator[tuple[int, ...]]:
    """All, or where they are too many, of each size the smallest ones in a row, and others drawn up to the end.

    Evenly spread ones would all have one remainder.
    """
    each = math.floor(_MOST ** (1 / max(len(ranges), 1)))
    draw = random.Random(0)
    chosen = [
        sizes
        if len(sizes) <= each
        else [*sizes[: each // 2], *draw.sample(sizes[each // 2 : -1], each - each // 2 - 1), sizes[-1]]
        for sizes in ranges
    ]
    yield from itertools.product(*chosen)


_ROUNDED_UP, _ROUNDED_DOWN = (math.ceil,), (math.floor, math.trunc)


def _tidy(program: ExportedProgram) -> None:
    """Take out the conditions, and write rounded quotients of sizes in integers, as torch can store them.

    Given:   truediv(%size, 3);  ceil(…)
    Result:  add(%size, 2);  floordiv(…, 3)
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is _ASSERT:
            graph.erase_node(node)
        elif node.target in (*_ROUNDED_UP, *_ROUNDED_DOWN) and _is_quotient(node.args[0]):
            size, divisor = node.args[0].args
            with graph.inserting_before(node):
                if node.target in _ROUNDED_UP:
                    size = _computed(graph, operator.add, size, divisor - 1)
                node.replace_all_uses_with(_computed(graph, operator.floordiv, size, divisor))
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _computed(graph: Graph, function: Any, size: Node, number: int) -> Node:
    node = graph.call_function(function, (size, number))
    node.meta["val"] = function(size.meta["val"], number)
    return node


def _is_quotient(node: Any) -> bool:
    """Whether it is a size, which is positive, by a positive number."""
    if getattr(node, "target", None) is not operator.truediv:
        return False
    size, divisor = node.args
    return isinstance(size.meta.get("val"), torch.SymInt) and isinstance(divisor, int) and divisor > 0
