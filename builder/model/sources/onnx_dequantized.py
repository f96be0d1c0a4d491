"""Files of dynamic quantization in float: their weights as they are, and nothing measured while the model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from builder.errors import SourceError
from builder.model.sources.onnx_graph import graphs_in, is_quantized_dynamically, refuse_quantized
from builder.spec.inputs import ImageInput, TensorInput, model_shape

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto
    from onnxruntime import InferenceSession, NodeArg

_KEY = "source.dequantize"
_MOVES = ("Reshape", "Transpose", "Slice", "Gather", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Expand")
"""Operators that move numbers, and so leave what was quantized as it was."""
_ROUNDS = ("Floor", "Round", "Cast")


def dequantize(model: ModelProto, path: Path) -> None:
    """Compute in float what a file quantizes while it runs, in place.

    Each measured scale becomes 1 and each zero point 0, so that the rest of the graph stays:

    Given:   %q, %s, %z = DynamicQuantizeLinear(%x);  %i = MatMulInteger(%q, %w, %z, %wz)
             %f = Cast<float>(%i);  %y = Mul(%f, Mul(%s, %ws))
    Result:  %f = MatMul(%x, %w - %wz);  %y = Mul(%f, Mul(1, %ws))

    Raises SourceError where nothing is measured, or where what is quantized goes elsewhere.
    """
    found = _Floats(model)
    for graph in graphs_in(model.graph):
        del graph.value_info[:]
        nodes = [new for node in graph.node for new in found.rewritten(node)]
        del graph.node[:]
        graph.node.extend(nodes)
    if not found.changed and not is_quantized_dynamically(model):
        raise SourceError(f"{path} is not quantized dynamically", code="B0316", hint="leave `dequantize` out", key=_KEY)
    refuse_quantized(model, path, offers=False)


def difference_db(
    quantized: InferenceSession, floats: InferenceSession, inputs: Mapping[str, ImageInput | TensorInput]
) -> float:
    """The SNR in dB, of the worst output, between a file and itself in float, on draws of what the recipe declares.

    `inputs` are by the file's own names. Rounding to 8 bits on the way leaves 25 to 45 dB on inputs that a model was
    made for, and less on noise where a recurrent layer carries it on.
    """
    generator = np.random.default_rng(0)
    draws = [
        {value.name: _drawn(generator, inputs[value.name], value) for value in quantized.get_inputs()} for _ in range(4)
    ]
    pairs = [(quantized.run(None, each), floats.run(None, each)) for each in draws]
    outputs = range(len(quantized.get_outputs()))
    return min(_snr_db([one[index] for one, _ in pairs], [other[index] for _, other in pairs]) for index in outputs)


def _drawn(generator: np.random.Generator, given: ImageInput | TensorInput, value: NodeArg) -> np.ndarray:
    """Numbers of an input between what the recipe declares, or around 0; of the file's dtype and rank."""
    shape = model_shape(given) if value.shape else ()
    low, high = (getattr(given, name, None) for name in ("low", "high"))
    kind = value.type.removeprefix("tensor(").removesuffix(")")
    if kind in _FLOATS:
        between = None if low is None or high is None else (float(low), float(high))
        array = generator.uniform(*between, shape) if between else generator.standard_normal(shape)
        return np.asarray(array, _FLOATS[kind])
    return np.asarray(generator.integers(int(low or 0), int(high or 2), shape), kind)


_FLOATS = {"float": np.float32, "float16": np.float16, "double": np.float64}


def _snr_db(wanted: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> float:
    """Over all samples of one output; infinite numbers of the first count for nothing."""
    one, other = (np.concatenate([np.ravel(each).astype(np.float64) for each in part]) for part in (wanted, got))
    sure = np.isfinite(one)
    noise = float(np.square(other[sure] - one[sure]).sum())
    return 10 * float(np.log10(max(float(np.square(one[sure]).sum()), 1e-30) / noise)) if noise else float("inf")


class _Floats:
    """What is known of a graph's tensors by name, node by node."""

    def __init__(self, model: ModelProto) -> None:
        self.changed = False
        self._outer = model.graph
        self._constants = _constants(model)
        self._floats: set[str] = set()
        """Tensors that were 8-bit integers and are floats, not scaled."""
        self._scales: set[str] = set()
        """Tensors that are computed of measured scales and constants alone."""

    def rewritten(self, node: NodeProto) -> list[NodeProto]:
        """What takes the place of a node; the node itself where nothing of it is quantized dynamically."""
        from onnx import helper

        kind, first = node.op_type, node.input[0] if node.input else ""
        if kind == "DynamicQuantizeLinear":
            self._scales.add(node.output[1])
            self._floats.add(node.output[0])
            self._add(node.output[1], np.array(1, np.float32))
            self._add(node.output[2], np.array(0, np.float32))
            return [helper.make_node("Identity", [first], [node.output[0]])]
        if kind in _PRODUCTS and (first in self._floats or kind == "DynamicQuantizeMatMul"):
            return self._product(node)
        if kind == "DynamicQuantizeLSTM":
            return self._lstm(node)
        if kind == "DequantizeLinear" and first in self._floats:
            return [helper.make_node("Identity", [first], list(node.output))]
        if kind in _MOVES and first in self._floats:
            self._floats.update(node.output)
        elif any(name in self._scales for name in node.input) and all(
            name in self._scales or name in self._constants for name in node.input
        ):
            self._scales.update(node.output)
            if kind in _ROUNDS:  # a bias in whole steps of the scale
                return [helper.make_node("Identity", [first], list(node.output))]
        return [node]

    def _product(self, node: NodeProto) -> list[NodeProto]:
        """A product of integers as one of floats: a matrix product or a convolution, with scale and bias if it has."""
        from onnx import helper

        weights, scale, zero, bias = (self._input(node, index) for index in _PRODUCTS[node.op_type])
        if weights not in self._floats:
            array = self._weights(weights, scale, zero, conv=node.op_type == "ConvInteger")
            if array is None:
                return [node]
            weights = self._add(f"{node.output[0]}/weights", array)
        elif scale:
            return [node]
        kind = "Conv" if node.op_type == "ConvInteger" else "MatMul"
        product = f"{node.output[0]}/product" if bias else node.output[0]
        made = helper.make_node(kind, [node.input[0], weights], [product], name=node.name)
        made.attribute.extend(node.attribute)
        return [made, *([helper.make_node("Add", [product, bias], list(node.output))] if bias else [])]

    def _lstm(self, node: NodeProto) -> list[NodeProto]:
        """A DynamicQuantizeLSTM has weights of (directions, inputs, 4 * hidden), an LSTM the other way round."""
        from onnx import helper

        arrays = [self._weights(self._input(node, at), self._input(node, scale), self._input(node, scale + 1), axis=0)
                  for at, scale in ((1, 8), (2, 10))]  # fmt: skip
        names = list(node.input[:8])
        for index, array in enumerate(arrays, start=1):
            if array is None:
                return [node]
            names[index] = self._add(f"{node.output[0] or node.output[1]}/weights_{index}", array.transpose(0, 2, 1))
        made = helper.make_node("LSTM", names, list(node.output), name=node.name)
        made.attribute.extend(node.attribute)
        return [made]

    def _weights(self, name: str, scale: str, zero: str, *, axis: int = -1, conv: bool = False) -> np.ndarray | None:
        """(weights - zero point) * scale, where all are constants; scale and zero point go along `axis`."""
        if any(each and each not in self._constants for each in (name, scale, zero)) or not name:
            return None
        array = self._constants[name].astype(np.float32)
        axis = 0 if conv else axis
        if zero:
            array = array - _along(self._constants[zero].astype(np.float32), array, axis)
        if scale:
            array = array * _along(self._constants[scale], array, axis)
        self.changed = True
        return array.astype(np.float32)

    def _input(self, node: NodeProto, index: int) -> str:
        return node.input[index] if 0 <= index < len(node.input) else ""

    def _add(self, name: str, array: np.ndarray) -> str:
        import onnx

        self._outer.initializer.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        self.changed = True
        return name


_PRODUCTS = {
    "MatMulInteger": (1, -1, 3, -1),
    "ConvInteger": (1, -1, 3, -1),
    "DynamicQuantizeMatMul": (1, 2, 3, 4),
    "MatMulIntegerToFloat": (1, 3, 5, 6),
}
"""Where weights, their scale, their zero point and a bias are among the inputs; -1 where there is none."""


def _along(values: np.ndarray, array: np.ndarray, axis: int) -> np.ndarray:
    """One value of `values` for each place of `array` along an axis, or one for all, to be broadcast."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim > 1 and axis == -1:
        return values
    if axis == 0 and values.ndim == 2:  # (directions, 4 * hidden) of a recurrent layer
        return values[:, None, :]
    shape = [1] * array.ndim
    shape[axis] = values.size
    return values.reshape(shape)


def _constants(model: ModelProto) -> Mapping[str, np.ndarray]:
    """All constants of a model, by name."""
    import onnx

    found: dict[str, np.ndarray] = {}
    for graph in graphs_in(model.graph):
        found |= {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
        found |= _of_nodes(graph)
    return found


def _of_nodes(graph: GraphProto) -> dict[str, np.ndarray]:
    import onnx

    return {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in graph.node
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
    }
