"""Simplifies what torch's exporter writes and gives its values the names of the file's operators."""

from __future__ import annotations

import ast
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_SCOPES = "pkg.torch.onnx.name_scopes"


def simplify(model: ModelProto, compressed: Collection[str]) -> None:
    """Inline functions, compute constants, take out what is unused and what is there twice.

    onnxscript's own `optimize` takes constants below 1e-8 for zero and removes their sums (an epsilon in front of a
    logarithm): its patterns compare by `math.isclose` with that tolerance (onnxscript 0.7, rewriter/_matcher.py). So
    this does the rest of it. Weights in `compressed` stay as they are.
    """
    import onnx_ir.passes.common as passes
    from onnxscript import optimizer

    passes.InlinePass()(model)

    def folds(node: NodeProto) -> bool | None:
        return False if any(value is not None and value.name in compressed for value in node.inputs) else None

    optimizer.fold_constants(model, should_fold=folds)
    for each in (
        passes.RemoveUnusedNodesPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        each(model)


def name_nodes(model: ModelProto, paths: Collection[str]) -> None:
    """The last node of each operator has the operator's name, those before it `<operator>.<type>`."""
    known, nodes = set(paths), list(model.graph)
    owner = {id(node): _owner(node, known) for node in nodes}
    last = {owner[id(node)]: node for node in nodes}
    taken = {value.name for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values())}
    named, fixed = set[str](), {id(value) for value in model.graph.outputs}
    for node in nodes:
        path = owner[id(node)]
        if path is None:
            continue
        name = path if last[path] is node else f"{path}.{node.op_type}"
        node.name = _unique(name, named)
        for value in node.outputs:
            if id(value) not in fixed:
                value.name = _unique(name, taken)


def _owner(node: NodeProto, known: Collection[str]) -> str | None:
    scopes = node.metadata_props.get(_SCOPES)
    found = [scope for scope in ast.literal_eval(scopes) if scope in known] if scopes else []
    return found[-1] if found else None


def _unique(name: str, taken: set[str]) -> str:
    number, chosen = 1, name
    while chosen in taken:
        number, chosen = number + 1, f"{name}_{number}"
    taken.add(chosen)
    return chosen
