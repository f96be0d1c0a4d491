"""Writes out the branch of every If of an ONNX graph whose condition follows from constants and fixed sizes.

Onnxsim does the same, but fails on branches within branches (its result is not in order), and may even crash on them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_LOG = logging.getLogger("builder.capture")
_MOST = 64
"""Elements of a value that is worth knowing: conditions are made of sizes."""


def without_known_branches(model: ModelProto) -> ModelProto:
    """A model in which no If is left whose condition is known; the same object where there is none at all.

    Given:   %c = Equal(%rate, 16000);  %y = If(%c) {then: %a = Conv(%x)} {else: …}
    Result:  %c = Equal(%rate, 16000);  %y/%a = Conv(%x);  %y = Identity(%y/%a)
    """
    import onnx

    if not any(node.op_type == "If" for node in model.graph.node):
        return model
    written = onnx.ModelProto()
    written.CopyFrom(model)
    while True:
        known = _known(written)
        place = next(
            (i for i, node in enumerate(written.graph.node) if node.op_type == "If" and node.input[0] in known), None
        )
        if place is None:
            return written
        _write_out(written.graph, place, bool(known[written.graph.node[place].input[0]].ravel()[0]))


def deciding_inputs(model: ModelProto) -> tuple[str, ...]:
    """The inputs of a single value on which the condition of an If depends."""
    made = {name: node for node in model.graph.node for name in node.output}
    waiting = [node.input[0] for node in model.graph.node if node.op_type == "If"]
    read = set(waiting)
    while waiting:
        node = made.get(waiting.pop())
        more = {name for name in node.input if name} - read if node is not None else set()
        read |= more
        waiting += sorted(more)
    shapes = dict(_fixed_shapes(model))
    names = [value.name for value in model.graph.input]
    return tuple(name for name in names if name in read and np.prod(shapes.get(name, (2,)), dtype=np.int64) == 1)


def _write_out(graph: GraphProto, place: int, holds: bool) -> None:
    import onnx

    node = graph.node[place]
    (branch,) = (a.g for a in node.attribute if a.name == ("then_branch" if holds else "else_branch"))
    prefix = f"{node.output[0]}/"
    constants = {tensor.name: f"{prefix}{tensor.name}" for tensor in branch.initializer}
    inner = onnx.compose.add_prefix_graph(branch, prefix, name_map=constants)
    given = [
        onnx.helper.make_node("Identity", [value.name], [name])
        for value, name in zip(inner.output, node.output, strict=True)
        if name
    ]
    nodes = [*graph.node[:place], *inner.node, *given, *graph.node[place + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.extend(inner.initializer)


def _known(model: ModelProto) -> dict[str, np.ndarray]:
    """Small values that are the same whatever the inputs are, by name."""
    import onnx

    known = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if np.prod(tensor.dims, dtype=np.int64) <= _MOST
    }
    shapes = dict(_fixed_shapes(model))
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
            known[node.output[0]] = np.array(shapes[node.input[0]], dtype=np.int64)
        elif node.op_type not in ("If", "Loop", "Scan") and all(name in known for name in node.input if name):
            known |= _computed(model, node, known)
    return known


def _computed(model: ModelProto, node: NodeProto, known: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs of a node of which all inputs are known; none where ONNX's own reference cannot compute them."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    if node.domain not in ("", "ai.onnx") or node.op_type.startswith("Random"):
        return {}
    given = {name: known[name] for name in node.input if name}
    inputs = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in given.items()
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "one", inputs, outputs)
    alone = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    try:
        results = ReferenceEvaluator(alone).run(None, given)
    except Exception as error:  # whatever an operator of the reference raises
        _LOG.debug("%s is not computed: %s", node.op_type, error)
        return {}
    found = zip((value.name for value in outputs), map(np.asarray, results), strict=True)
    return {name: value for name, value in found if value.size <= _MOST}


def _fixed_shapes(model: ModelProto) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The values whose sizes are all fixed, with their shapes."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError as error:
        _LOG.debug("%s", error)
        graph = model.graph
    for value in (*graph.input, *graph.value_info):
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            yield value.name, tuple(d.dim_value for d in kind.shape.dim)
