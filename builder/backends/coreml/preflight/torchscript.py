"""The operators of a TorchScript program, in its own order, those of nested blocks included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from builder.backends.coreml.lowerings.memory import Memory
from builder.backends.coreml.lowerings.views import all_nodes
from builder.backends.coreml.lowerings.writes import rewrite_writes
from builder.backends.coreml.preflight.operators import (
    Operator,
    Place,
    TensorFact,
    frames_of_python,
    frames_of_trace,
    user_module,
    user_place,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch.jit import ScriptModule

    from builder.backends.coreml.lowerings.views import Graph, Node, Value

_INSTANCE = re.compile(r"(\w[\w.]*|INSTANCE_NAME_UNKNOWN)\([^)]*\)")


def torchscript_operators(program: ScriptModule) -> list[Operator]:
    """Every operator of namespace `aten` (and others that are not bookkeeping) in the graph that is converted."""
    graph = _converted_graph(program)
    rewrite_writes(graph)
    return [_operator(node) for node in all_nodes(graph) if is_operator(node)]


def lost_writes(program: ScriptModule) -> list[Operator]:
    """Writes in place of a captured program whose result a conversion would lose."""
    graph = _converted_graph(program)  # nodes are valid as long as it lives
    return [replace(_operator(node), overwritten=through) for node, through in Memory(graph, typed=True).lost()]


def rewritten_writes(program: ScriptModule) -> list[Operator]:
    """Writes in place of a captured program that coremltools would lose, and builder writes as values."""
    graph = _converted_graph(program)
    memory = Memory(graph, typed=True)
    return [
        replace(_operator(node), overwritten=memory.describe(node))
        for root in memory.to_rewrite().values()
        for _, node in root.writes
    ]


def top_level_names(program: ScriptModule) -> list[str]:
    """The operators (`aten::diff`) that run in any case, since no branch or loop is around them."""
    return [str(node.kind()) for node in _converted_graph(program).nodes() if is_operator(node)]


def _converted_graph(program: ScriptModule) -> Graph:
    """A copy of the graph, simplified as coremltools does before it begins, which takes some operators away."""
    graph = program.inlined_graph
    torch._C._jit_pass_inline_fork_wait(graph)
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_canonicalize_graph_fuser_ops(graph)
    return graph


def is_operator(node: Node) -> bool:
    """Whether a node computes something: `prim` is bookkeeping."""
    return not str(node.kind()).startswith("prim::")


def _operator(node: Node) -> Operator:
    return Operator(
        name=node.kind().partition("::")[2],
        overload=node.schema().partition("(")[0].partition(".")[2],
        module=_module(node),
        place=_place(node),
        outputs=tuple(_fact(value) for value in node.outputs()),
        inputs=tuple(_fact(value) for value in node.inputs()),
        constants=tuple(_constants(node.inputs())),
    )


def _module(node: Node) -> str:
    """Of the scope that the tracer notes, or, where a program was read from a file, of its inlined calls."""
    scope = node.scopeName()
    if scope:
        return user_module(scope.rpartition("/")[2].removeprefix("__module").removeprefix("."))
    names = [name for name in _INSTANCE.findall(node.getModuleHierarchy()) if "UNKNOWN" not in name]
    return user_module(".".join(names))


def _place(node: Node) -> Place | None:
    text = node.sourceRange()
    return user_place(frames_of_trace(text)) or user_place(frames_of_python(text))


def _fact(value: Value) -> TensorFact | None:
    kind = value.type()
    if not isinstance(kind, torch._C.TensorType):
        return None
    sizes = kind.sizes()
    return TensorFact(dtype=kind.dtype(), shape=None if sizes is None else tuple(sizes))


def _constants(values: Iterable[Value]) -> Iterator[int | float]:
    for value in values:
        found = value.toIValue() if value.node().kind() == "prim::Constant" else None
        if isinstance(found, torch.Tensor) and found.numel() == 1 and not found.is_complex():
            found = found.item()
        if isinstance(found, int | float) and not isinstance(found, bool):
            yield found


def paired(converted: Sequence[Operator], traced: Sequence[Operator]) -> list[Operator]:
    """The operators of the program that is converted, with the modules and types that only the fresh trace knows.

    Writing a program to a file keeps operators and their order, and gives some of them torch's preferred names.
    """
    if len(converted) != len(traced):
        return list(converted)
    return [
        replace(old, name=new.name, place=old.place or new.place) for new, old in zip(converted, traced, strict=True)
    ]
