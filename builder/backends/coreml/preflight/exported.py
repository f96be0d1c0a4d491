"""The operators of an exported program, in its own order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from builder.backends.coreml.preflight.operators import (
    Operator,
    Place,
    TensorFact,
    frames_of_python,
    user_module,
    user_place,
)

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node


def exported_operators(program: ExportedProgram) -> dict[str, Operator]:
    """Every call in the graph, by the name of its node; `getitem`, which picks one output of several, is not one."""
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    return {node.name: _operator(node) for node in nodes if getattr(node.target, "__name__", "") != "getitem"}


def _operator(node: Any) -> Operator:
    return Operator(
        name=_name(node.target),
        overload=_overload(node.target),
        module=_module(node),
        place=_place(node),
        outputs=tuple(_fact(value) for value in _flat(node.meta.get("val"))),
        inputs=tuple(_fact(value.meta.get("val")) for value in node.all_input_nodes),
        constants=tuple(_constants([*node.args, *node.kwargs.values()])),
        alpha=node.kwargs.get("alpha"),
    )


def _name(target: object) -> str:
    """`add` of `aten.add.Tensor`."""
    packet = getattr(target, "overloadpacket", None)
    return str(packet).rpartition(".")[2] if packet is not None else getattr(target, "__name__", str(target))


def _overload(target: object) -> str:
    overload = str(getattr(target, "_overloadname", "default"))
    return "" if overload == "default" else overload


def _module(node: Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return user_module(stack[-1][0]) if stack else ""


def _place(node: Node) -> Place | None:
    return user_place(frames_of_python(node.meta.get("stack_trace") or ""))


def _flat(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _fact(value: object) -> TensorFact | None:
    if not isinstance(value, torch.Tensor):
        return None
    return TensorFact(dtype=value.dtype, shape=tuple(s if isinstance(s, int) else None for s in value.shape))


def _constants(arguments: list[object]) -> Iterator[int | float]:
    for value in arguments:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield value
