"""What a program has that not every format can hold: random draws, loops, sizes that values of an input give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch.fx import Node

from coreml_runtime.export.interface import Taken
from coreml_runtime.export.tidy import operator_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Graph


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Operators by name: those that draw without a seed, loop as long as an input says, or give sizes by values.

    `sizing` are the inputs whose values give sizes, and integers that give numbers of turns. `tied` are pairs of axes,
    as (input, axis), that the file leaves open and that must be of one size in the program.
    """

    draws: tuple[str, ...]
    loops: tuple[str, ...]
    sized: tuple[str, ...]
    sizing: tuple[str, ...]
    tied: tuple[tuple[tuple[str, int], tuple[str, int]], ...]


def needs_of(program: ExportedProgram, paths: Mapping[str, str], inputs: Sequence[Taken]) -> Needs:
    """Read off the graph; `paths` holds the module of each operator by its name in the file."""
    graph = program.graph_module.graph
    names = {path: name for name, path in paths.items()}
    calls = [node for node in graph.nodes if node.op == "call_function"]

    def operators(chosen: list[Node]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(names.get(operator_of(node), operator_of(node)) for node in chosen))

    reads = [node for node in calls if node.target is torch.ops.aten.item.default and node.users]
    given = dict(zip(program.graph_signature.user_inputs, inputs, strict=True))
    loops = [node for node in calls if node.target is torch.ops.higher_order.while_loop]
    behind, turns = _behind(reads), _behind([each for loop in loops for each in _decide(program, loop)])
    return Needs(
        draws=operators([node for node in calls if _draws(node.target)]),
        loops=operators(loops),
        sized=operators(reads),
        sizing=tuple(
            taken.name
            for name, taken in given.items()
            if name in behind or (name in turns and not taken.dtype.is_floating_point)
        ),
        tied=_tied(graph, given),
    )


def _draws(target: object) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(target, "tags", ())


def _decide(program: ExportedProgram, loop: Node) -> list[Node]:
    """What the condition of a loop reads, as the program around it has it."""
    first, _, values, around = cast("tuple[Node, Node, tuple[object, ...], tuple[object, ...]]", loop.args)
    condition = getattr(program.graph_module, str(first.target))
    inner = [node for node in condition.graph.nodes if node.op == "placeholder"]
    return [
        value for value, node in zip((*values, *around), inner, strict=True) if node.users and isinstance(value, Node)
    ]


def _behind(nodes: Sequence[Node]) -> set[str]:
    """The names of all nodes that these are computed from."""
    found, left = set[str](), list(nodes)
    while left:
        node = left.pop()
        if node.name not in found:
            found.add(node.name)
            left += node.all_input_nodes
    return found


def _tied(graph: Graph, given: Mapping[str, Taken]) -> tuple[tuple[tuple[str, int], tuple[str, int]], ...]:
    """Each flexible axis with the first one whose size it has."""
    first: dict[str, tuple[str, int]] = {}
    found = []
    for node in graph.nodes:
        taken = given.get(node.name) if node.op == "placeholder" else None
        for axis in taken.ranges if taken is not None else ():
            size = node.meta["val"].shape[axis]
            known = str(size.node.shape_env.replace(size.node.expr)) if isinstance(size, torch.SymInt) else str(size)
            place = (taken.name if taken else "", axis)
            if first.setdefault(known, place) != place:
                found.append((place, first[known]))
    return tuple(found)
