"""Arithmetic of 8 and 16 bits that wraps as torch's does: a program of Core ML computes it in 32.

Each result is cast to the dtype that it has already. To torch that is nothing; the lowering of the cast keeps the
lowest bits (`builder.backends.coreml.lowerings.casts`). Only a fresh trace and an exported program know dtypes.
"""

from __future__ import annotations

from typing import Any

import torch

from builder.backends.coreml.lowerings.views import Node, Value, all_nodes, out_of_place, plain_name, writes_in_place

NARROW = frozenset({torch.uint8, torch.int8, torch.int16, torch.uint16})
LEAVES_THE_RANGE = frozenset(
    {
        *("add", "sub", "subtract", "rsub", "mul", "multiply", "neg", "negative", "abs", "absolute", "square", "pow"),
        *("div", "divide", "floor_divide", "bitwise_not", "bitwise_left_shift", "__lshift__", "addcmul", "diff"),
        *("sum", "prod", "cumsum", "cumprod", "dot", "mv", "mm", "bmm", "matmul", "addmm", "addmv", "addbmm", "addr"),
        *("baddbmm", "linear", "outer", "ger", "inner", "vdot", "kron", "cross", "linalg_cross", "einsum", "tensordot"),
        *("trace", "index_add", "scatter_add", "scatter_reduce", "index_put", "index_reduce", "_index_put_impl"),
    }
)
"""Operators whose result may be a number that the dtype of their inputs does not hold."""


def wrap_trace(traced: Any) -> None:
    """Add the casts to a fresh trace.

    Given:   %y : Byte = add(%x, %z, 1);                 add_(%u, %z, 1)
    Result:  %y' = add(%x, %z, 1);  %y = to(%y', Byte);  %v = add(%u, %z, 1);  %w = to(%v, Byte);  copy_(%u, %w)
    """
    for part in traced.modules():
        graph = part.graph if part._c._has_method("forward") else None
        for node in list(all_nodes(graph)) if graph is not None else ():
            name = out_of_place(node) if writes_in_place(node) else plain_name(node)
            dtype = _dtype(node) if name in LEAVES_THE_RANGE else None
            if dtype in NARROW:
                _wrap(graph, node, name, dtype)


def wrap_exported(program: Any) -> Any:
    """Add the casts to an exported program.

    Given:   %y : uint8 = aten.add(%x, %z)
    Result:  %y' = aten.add(%x, %z);  %y = aten._to_copy(%y', dtype=uint8)
    """
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        value = node.meta.get("val")
        name = getattr(getattr(node.target, "overloadpacket", None), "__name__", "")
        if name not in LEAVES_THE_RANGE or not isinstance(value, torch.Tensor) or value.dtype not in NARROW:
            continue
        users = list(node.users)
        with graph.inserting_after(node):
            cast = graph.call_function(torch.ops.aten._to_copy.default, (node,), {"dtype": value.dtype})
        cast.meta = dict(node.meta)
        for user in users:
            user.replace_input_with(node, cast)
        _rename_output(program, node.name, cast.name)
    program.graph_module.recompile()
    return program


def _rename_output(program: Any, before: str, after: str) -> None:
    for spec in program.graph_signature.output_specs:
        if getattr(spec.arg, "name", None) == before:
            spec.arg.name = after


def _dtype(node: Node) -> Any:
    kind = next(node.outputs()).type()
    return kind.dtype() if isinstance(kind, torch._C.TensorType) else None


def _wrap(graph: Any, node: Node, name: str, dtype: Any) -> None:
    last = [node]

    def insert(kind: str, *inputs: Value) -> Value:
        made = graph.create(kind, list(inputs), 1)
        made.copyMetadata(node)
        last.append(made.insertAfter(last[-1]))
        return made.output()

    def constant(value: bool | int | None) -> Value:
        made = graph.insertConstant(value)
        made.node().moveAfter(last[-1])
        last.append(made.node())
        return made

    output = next(node.outputs())
    result = insert(f"aten::{name}", *node.inputs()) if writes_in_place(node) else output
    arguments = [constant(value) for value in (dtype, False, False, None)]
    cast = insert("aten::to", result, *arguments)
    cast.setTypeAs(output)
    if not writes_in_place(node):
        output.replaceAllUsesAfterNodeWith(cast.node(), cast)
        return
    result.setTypeAs(output)
    written = insert("aten::copy_", next(node.inputs()), cast, constant(False))
    written.setTypeAs(output)
    output.replaceAllUsesWith(written)
    node.destroy()
