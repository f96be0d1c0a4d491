"""An ONNX graph that computes in another float type than its file's, with the numbers that the file has.

In float32 a file in half precision runs as a build computes; what the artifact has, `precision` says. In float64, what
onnxruntime's float32 kernels lose shows as the difference.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from builder.model.sources.onnx_graph import graphs_in

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_CHOOSES = ("to", "dtype")
"""Attributes that name the dtype of a result."""


def in_float64(model: ModelProto) -> ModelProto:
    """A copy whose float32 weights, constants, inputs, outputs and casts are float64; others stay as they are.

    onnxruntime has no float64 kernel for some operators, which it says when a session is made.
    """
    from onnx import TensorProto

    double = copy.deepcopy(model)
    _widen(double, {TensorProto.FLOAT: TensorProto.DOUBLE})
    return double


def to_float32(model: ModelProto) -> None:
    """Make float32 of the float16 and bfloat16 of a graph, in place."""
    from onnx import TensorProto

    _widen(model, {TensorProto.FLOAT16: TensorProto.FLOAT, TensorProto.BFLOAT16: TensorProto.FLOAT})


def _widen(model: ModelProto, types: Mapping[int, int]) -> None:
    """Change weights, constants, inputs, outputs and casts of these types, all graphs inside nodes included."""
    for graph in graphs_in(model.graph):
        for tensor in graph.initializer:
            _widen_tensor(tensor, types)
        for value in (*graph.input, *graph.output):
            if (kind := value.type.tensor_type).elem_type in types:
                kind.elem_type = types[kind.elem_type]
        del graph.value_info[:]
        for node in graph.node:
            _widen_attributes(node, types)


def _widen_tensor(tensor: TensorProto, types: Mapping[int, int]) -> None:
    from onnx import helper, numpy_helper

    if tensor.data_type in types:
        dtype = helper.tensor_dtype_to_np_dtype(types[tensor.data_type])
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))


def _widen_attributes(node: NodeProto, types: Mapping[int, int]) -> None:
    from onnx import AttributeProto, TensorProto, helper, numpy_helper

    for attribute in list(node.attribute):
        if attribute.type == AttributeProto.TENSOR:
            _widen_tensor(attribute.t, types)
        elif attribute.name in _CHOOSES and attribute.i in types:
            attribute.i = types[attribute.i]
        elif (
            TensorProto.FLOAT in types
            and node.op_type == "Constant"
            and attribute.type in (AttributeProto.FLOAT, AttributeProto.FLOATS)
        ):
            value = np.float64(attribute.f) if attribute.type == AttributeProto.FLOAT else np.float64(attribute.floats)
            node.attribute.remove(attribute)
            node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.asarray(value))))
    if TensorProto.FLOAT in types and node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))
