"""An ONNX graph in float64: what onnxruntime's float32 kernels lose shows as the difference."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np

from builder.model.sources.onnx_graph import graphs_in

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_CHOOSES = ("to", "dtype")
"""Attributes that name the dtype of a result."""


def in_float64(model: ModelProto) -> ModelProto:
    """A copy whose float32 weights, constants, inputs, outputs and casts are float64; others stay as they are.

    The numbers are the same, constants of float32 among them. onnxruntime has no float64 kernel for some operators,
    which it says when a session is made.
    """
    from onnx import TensorProto

    double = copy.deepcopy(model)
    for graph in graphs_in(double.graph):
        for tensor in graph.initializer:
            _widen(tensor)
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT:
                value.type.tensor_type.elem_type = TensorProto.DOUBLE
        del graph.value_info[:]
        for node in graph.node:
            _widen_attributes(node)
    return double


def _widen(tensor: TensorProto) -> None:
    from onnx import TensorProto, numpy_helper

    if tensor.data_type == TensorProto.FLOAT:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _widen_attributes(node: NodeProto) -> None:
    from onnx import AttributeProto, TensorProto, helper, numpy_helper

    for attribute in list(node.attribute):
        if attribute.type == AttributeProto.TENSOR:
            _widen(attribute.t)
        elif attribute.name in _CHOOSES and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
        elif node.op_type == "Constant" and attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS):
            value = np.float64(attribute.f) if attribute.type == AttributeProto.FLOAT else np.float64(attribute.floats)
            node.attribute.remove(attribute)
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.asarray(value))))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
