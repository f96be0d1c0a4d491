"""Exports at sizes that the app chooses, where torch.export is not sure that the code runs in one way at all of them.

It proves conditions on sizes by algebra, and refuses `x[:, size // 2 :]`, of which it cannot prove `size // 2 <= size`.
Here such a program keeps its conditions, which are then held against the sizes themselves (`conditions.py`).
"""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node
from torch.utils._sympy.value_ranges import bound_sympy

from builder.model.capture.conditions import drop_conditions, is_always, open_sizes

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph


def export_program(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any, *, strict: bool = False
) -> ExportedProgram:
    """`torch.export.export` with the dimensions `shapes` open; raises what that raises.

    Where it refuses conditions on sizes, the program rests on them, and whoever calls must hold them against the
    sizes. Quotients and shares of sizes are integers. With `strict` torch compiles the module's bytecode, and so sees
    `int(size * 0.3)`, which is a number for it otherwise.
    """
    if shapes is None:
        return torch.export.export(module, inputs)
    with _without_logs() if strict else nullcontext():
        program = _exported(module, inputs, shapes, strict=strict)
    _tidy(program)
    return program


def _exported(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], shapes: Any, *, strict: bool
) -> ExportedProgram:
    """Of the ways to ask, the first that gives a program; what the first of them raises where none does."""
    try:
        return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=strict)
    except Exception as error:  # a UserError, or whatever torch's own suggestions of what to change end in
        named = {dimension.__name__ for each in shapes[0] for dimension in each.values()}
        for given, defers in ((shapes, True), (_by_itself(shapes), False)):
            try:
                program = torch.export.export(
                    module,
                    inputs,
                    dynamic_shapes=given,
                    strict=strict,
                    prefer_deferred_runtime_asserts_over_guards=defers,
                )
            except Exception:  # torch has many types of its own
                continue
            if len(set(open_sizes(program).values())) == len(named):
                return program
        raise error from None


def _by_itself(shapes: Any) -> Any:
    """The dimensions as torch narrows them by itself; as they are where two are one, which it would not know."""
    dimensions: Any = torch.export.Dim
    named = [dimension for each in shapes[0] for dimension in each.values()]
    if len({dimension.__name__ for dimension in named}) < len(named):
        return shapes
    return (tuple({axis: dimensions.AUTO(min=d.min, max=d.max) for axis, d in each.items()} for each in shapes[0]),)


@contextmanager
def _without_logs() -> Iterator[None]:
    """Keep what torch's compiler logs of a refusal, with its own stack, from people: the error is raised as well."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


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

    Given:   truediv(%size, 3);  ceil(…)        mul(sym_float(%size), 0.3);  trunc(…)
    Result:  add(%size, 2);  floordiv(…, 3)     mul(%size, 3);  floordiv(…, 10)
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        share = _share(node.args[0], node.target, program) if node.target in _ROUNDED else None
        if share is not None:
            number, factor = share
            with graph.inserting_before(node):
                if factor.numerator != 1:
                    number = _computed(graph, operator.mul, number, factor.numerator)
                node.replace_all_uses_with(_rounded(graph, program, node.target, number, factor.denominator))
    drop_conditions(program)


_ROUNDED = (math.ceil, math.floor, math.trunc, round)
_MOST = 2**20
"""Numbers at which a fraction must be what a float is."""


def _share(node: Any, rounding: Any, program: ExportedProgram) -> tuple[Node, Fraction] | None:
    """An integer of sizes, and the fraction of it that is rounded; None for anything else.

    A float stands for a fraction of up to four digits that gives the same at each number that there can be.
    """
    if not isinstance(node, Node) or node.target not in (operator.truediv, operator.mul):
        return None
    target, given = node.target, node.args
    number, factor = given if isinstance(given[0], Node) else given[::-1]
    while isinstance(number, Node) and number.target is torch.sym_float:
        number = number.args[0]
    if not isinstance(number, Node):
        return None
    value = number.meta.get("val")
    is_behind = target is operator.truediv and not isinstance(given[0], Node)
    if not isinstance(value, torch.SymInt) or not isinstance(factor, int | float) or factor <= 0 or is_behind:
        return None
    if isinstance(factor, int):
        return (number, Fraction(1, factor)) if target is operator.truediv else None
    fraction = Fraction(factor if target is operator.mul else 1 / factor).limit_denominator(10_000)
    bounds = bound_sympy(value.node.expr, dict(program.range_constraints))
    least, most = int(bounds.lower), int(bounds.upper)
    if least < 0 or most - least > _MOST or most * fraction.numerator > torch.iinfo(torch.int32).max:
        return None
    is_same = all(rounding(target(n, factor)) == rounding(n * fraction) for n in range(least, most + 1))
    return (number, fraction) if is_same else None


def _rounded(graph: Graph, program: ExportedProgram, rounding: Any, number: Node, divisor: int) -> Node:
    """The quotient in integers; `trunc` of one that may be negative is made of its parts above and below 0."""
    if rounding is round:
        return _rounded_to_even(graph, number, divisor)
    if rounding is math.ceil:
        return _computed(graph, operator.floordiv, _computed(graph, operator.add, number, divisor - 1), divisor)
    bounds = program.range_constraints
    if rounding is math.floor or is_always(number.meta["val"].node.expr >= 0, bounds):
        return _computed(graph, operator.floordiv, number, divisor)
    above = _computed(graph, torch.sym_max, number, 0)
    below = _computed(graph, operator.sub, above, number)
    parts = [_computed(graph, operator.floordiv, part, divisor) for part in (above, below)]
    return _computed(graph, operator.sub, *parts)


def _rounded_to_even(graph: Graph, number: Node, divisor: int) -> Node:
    """`(2 number + divisor) // (2 divisor)`, less one where that is odd and the quotient lies half-way."""
    doubled = _computed(graph, operator.add, _computed(graph, operator.mul, number, 2), divisor)
    above = _computed(graph, operator.floordiv, doubled, 2 * divisor)
    if divisor % 2:
        return above
    rest = _computed(graph, operator.mod, doubled, 2 * divisor)
    is_above = _computed(graph, torch.sym_min, rest, 1)
    is_odd = _computed(graph, operator.mod, above, 2)
    is_even_or_above = _computed(graph, torch.sym_max, is_above, _computed(graph, operator.sub, 1, is_odd))
    return _computed(graph, operator.add, _computed(graph, operator.sub, above, 1), is_even_or_above)


def _computed(graph: Graph, function: Any, number: Node | int, other: Node | int) -> Node:
    node = graph.call_function(function, (number, other))
    node.meta["val"] = function(*(given.meta["val"] if isinstance(given, Node) else given for given in node.args))
    return node
