"""Old ONNX graphs in a newer version of the operators, where ONNX's own converter forgets what has changed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from builder.model.sources.onnx_graph import graphs_in, opset_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_LOG = logging.getLogger("builder.capture")
_ASYMMETRIC_UNTIL = 10
"""The last version whose Resize and Upsample have no coordinate mode: place p is taken from p / scale."""
_FLATTENS_UNTIL = 12
"""The last version whose Hardmax takes all axes from `axis` on as one."""


def upgraded(model: ModelProto, opset: int) -> ModelProto:
    """The model in a version of the operators that defines many by others, which is how unknown ones are converted.

    ONNX cannot upgrade every operator; then the model stays as it is.
    """
    import onnx

    version = opset_of(model)
    if version >= opset:
        return model
    plain = model
    if version <= _FLATTENS_UNTIL:
        plain = onnx.ModelProto()
        plain.CopyFrom(model)
        for graph in graphs_in(plain.graph):
            _flatten_hardmax(graph)
    try:
        newer = onnx.version_converter.convert_version(plain, opset)
    except Exception as error:  # its C++ code raises RuntimeError, ConvertError and others
        _LOG.debug("not upgraded from opset %d: %s", version, error)
        return model
    if version <= _ASYMMETRIC_UNTIL:
        for graph in graphs_in(newer.graph):
            for node in graph.node:
                if node.op_type == "Resize" and node.domain == "":
                    _make_asymmetric(node)
    return newer


def _make_asymmetric(node: NodeProto) -> None:
    from onnx import helper

    written = {attribute.name for attribute in node.attribute}
    for name, value in {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}.items():
        if name not in written:
            node.attribute.append(helper.make_attribute(name, value))


def _flatten_hardmax(graph: GraphProto) -> None:
    """Write out what an old Hardmax does with its axes.

    Given:   %y = Hardmax[axis: 1](%x)
    Result:  %y/flat = Flatten[axis: 1](%x);  %y/hot = Hardmax[axis: 1](%y/flat);  %y = Reshape(%y/hot, Shape(%x))
    """
    from onnx import helper

    nodes = []
    for node in graph.node:
        if node.op_type != "Hardmax" or node.domain:
            nodes.append(node)
            continue
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        flat, hot, shape = (f"{node.output[0]}/{part}" for part in ("flat", "hot", "shape"))
        nodes += [
            helper.make_node("Flatten", [node.input[0]], [flat], axis=axis),
            helper.make_node("Hardmax", [flat], [hot], axis=1),
            helper.make_node("Shape", [node.input[0]], [shape]),
            helper.make_node("Reshape", [hot, shape], [node.output[0]]),
        ]
    del graph.node[:]
    graph.node.extend(nodes)
