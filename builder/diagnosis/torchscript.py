"""The operators of a TorchScript program, in its own order, those of nested blocks included."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from builder.diagnosis.operators import (
    Operator,
    Place,
    TensorFact,
    frames_of_python,
    frames_of_trace,
    user_module,
    user_place,
)

_INSTANCE = re.compile(r"(\w[\w.]*|INSTANCE_NAME_UNKNOWN)\([^)]*\)")
_VIEWS = frozenset(
    {
        *("slice", "select", "view", "reshape", "transpose", "permute", "unsqueeze", "squeeze", "expand", "narrow"),
        *("t", "flatten", "unflatten", "detach", "diagonal", "view_as", "expand_as", "movedim"),
        *("chunk", "split", "unbind"),
    }
)
"""Operators whose result shares memory with their first argument."""
_REBUILT = ("copy_", "fill_")
"""In-place operators that coremltools itself turns into an assignment, where `_ASSIGNED` views lead to them."""
_ASSIGNED = frozenset({"slice", "select"})


def torchscript_operators(program: Any) -> list[Operator]:
    """Every operator of namespace `aten` (and others that are no bookkeeping) in the inlined graph."""
    graph = _converted_graph(program)
    order = {node: position for position, node in enumerate(_nodes(graph))}
    return [_operator(node, order) for node in order if is_operator(node)]


def lost_writes(program: Any) -> list[Operator]:
    """Writes in place whose result a conversion would lose; few operators are looked at closely, so this is quick."""
    graph = _converted_graph(program)
    order = {node: position for position, node in enumerate(_nodes(graph))}
    return [_operator(node, order) for node in order if is_operator(node) and _overwritten(node, order) is not None]


def top_level_names(program: Any) -> list[str]:
    """The operators (`aten::diff`) that run in any case, since no branch or loop is around them."""
    return [str(node.kind()) for node in _converted_graph(program).nodes() if is_operator(node)]


def _converted_graph(program: Any) -> Any:
    """A copy of the graph, simplified as coremltools does before it begins, which takes some operators away."""
    graph = program.inlined_graph
    torch._C._jit_pass_inline_fork_wait(graph)
    torch._C._jit_pass_dce(graph)
    torch._C._jit_pass_canonicalize_graph_fuser_ops(graph)
    return graph


def is_operator(node: Any) -> bool:
    """Whether a node computes something: `prim` is bookkeeping."""
    return not str(node.kind()).startswith("prim::")


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _operator(node: Any, order: dict[Any, int]) -> Operator:
    return Operator(
        name=node.kind().partition("::")[2],
        overload=node.schema().partition("(")[0].partition(".")[2],
        module=_module(node),
        place=_place(node),
        outputs=tuple(_fact(value) for value in node.outputs()),
        inputs=tuple(_fact(value) for value in node.inputs()),
        constants=tuple(_constants(node.inputs())),
        overwritten=_overwritten(node, order),
    )


def _module(node: Any) -> str:
    """Of the scope that the tracer notes, or, where a program was read from a file, of its inlined calls."""
    scope = node.scopeName()
    if scope:
        return user_module(scope.rpartition("/")[2].removeprefix("__module").removeprefix("."))
    names = [name for name in _INSTANCE.findall(node.getModuleHierarchy()) if "UNKNOWN" not in name]
    return user_module(".".join(names))


def _place(node: Any) -> Place | None:
    text = node.sourceRange()
    return user_place(frames_of_trace(text)) or user_place(frames_of_python(text))


def _fact(value: Any) -> TensorFact | None:
    kind = value.type()
    if not isinstance(kind, torch._C.TensorType):
        return None
    sizes = kind.sizes()
    return TensorFact(dtype=kind.dtype(), shape=None if sizes is None else tuple(sizes))


def _constants(values: Any) -> Iterator[int | float]:
    for value in values:
        found = value.toIValue() if value.node().kind() == "prim::Constant" else None
        if isinstance(found, torch.Tensor) and found.numel() == 1 and not found.is_complex():
            found = found.item()
        if isinstance(found, int | float) and not isinstance(found, bool):
            yield found


def _overwritten(node: Any, order: dict[Any, int]) -> str | None:
    """The views through which an in-place operator changes a tensor that a later operator reads.

    coremltools converts `mul_` as `mul`, so such a change is lost; it rebuilds `copy_` and `fill_` through slices.
    """
    name = node.kind().partition("::")[2]
    if not name.endswith("_") or name.startswith("__"):
        return None
    views, value, bases = [], next(node.inputs(), None), []
    while value is not None and (kind := value.node().kind().partition("::")[2]) in (*_VIEWS, "ListUnpack"):
        if kind != "ListUnpack":  # which takes one of the views that `chunk` and its like give
            views.append(kind)
        value = next(value.node().inputs(), None)
        bases.append(value)
    if not views or (name in _REBUILT and _ASSIGNED.issuperset(views)):
        return None
    read_later = any(
        order.get(use.user, len(order)) > order[node] for base in bases if base is not None for use in base.uses()
    )
    return " of ".join(views) if read_later else None


def paired(converted: Sequence[Operator], traced: Sequence[Operator]) -> list[Operator]:
    """The operators of the program that is converted, with the modules and types that only the fresh trace knows.

    Writing a program to a file keeps operators and their order, and gives some of them torch's preferred names.
    """
    if len(converted) != len(traced):
        return list(converted)
    return [
        replace(old, name=new.name, place=old.place or new.place) for new, old in zip(converted, traced, strict=True)
    ]
