"""Walks an ONNX graph as onnxsim's lowerer does, with integers as ONNX has them and refusals that name the operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from builder.backends.coreml.lowerings.lowering import Builder, Var
from builder.model.sources.onnx_graph import graphs_in

if TYPE_CHECKING:
    from types import ModuleType

    import numpy as np
    from onnx import GraphProto, ModelProto


Node = Any
"""`onnx.NodeProto`; onnx has no types."""
Inputs = Sequence[Var]
"""The values of a node's inputs; None in the place of one that is left out."""
Attributes = Mapping[str, Any]
"""A node's attributes by name: numbers, texts, lists of them, and arrays."""


class OnnxLowerer(Protocol):
    """What the conversion of one graph offers to lowerings."""

    mb: Builder
    types: ModuleType
    """`coremltools.converters.mil.mil.types`."""

    opset: int
    readers: Mapping[str, Sequence[tuple[Node, int]]]
    """By the name of a value the nodes that read it, and as which of their inputs."""
    centred: dict[str, np.ndarray | None]
    """By the name of a quantized value that is held without its zero point, that zero point."""
    _values: dict[str, Var]

    def fresh_name(self, node: Node, suffix: str = "") -> str:
        """A name for the result of a node that nothing else in the program has."""

    def make_const(self, name: str, array: np.ndarray) -> Var:
        """A constant of an array."""

    def bind(self, name: str, value: Var) -> None:
        """Give a value one of ONNX's names."""

    def lower_node(self, node: Node) -> None:
        """Convert one node; raises RuntimeError that names the operator."""

    def get(self, name: str) -> Var:
        """The value of one of ONNX's names."""

    def dtype_of(self, name: str) -> str:
        """ONNX's name of the dtype of a value, `UNDEFINED` where it is not known."""


Lowering = Callable[[OnnxLowerer, Node, Inputs, Attributes], list[Var]]

# fmt: off
_WRAPPED = frozenset({"Add", "Sub", "Mul", "Neg", "Sum", "Pow", "Cast", "CumSum", "MatMul", "ReduceSum", "ReduceProd",
                      "BitShift"})
# fmt: on
"""Operators whose result may be beyond a small integer dtype, where ONNX begins again at its other end."""
_BITS = {"UINT8": (8, False), "INT8": (8, True), "UINT16": (16, False), "INT16": (16, True)}
_UNBOUNDED = {"Slice": (1, 2), "Loop": (0,)}
"""Where a number beyond 32 bits means "to the end", or no limit: inputs of an operator by position."""


def lowerer_class(base: type, table: Mapping[str, Lowering], model: ModelProto) -> type:
    """Onnxsim's `_Lowerer` (`base`) for one model: with the operators of `table`, and small integers kept in range."""
    import onnx

    dtypes = element_types(model)
    refuse_large_integers(model.graph)

    class Lowerer(base):  # type: ignore[misc]  # onnxsim has no types
        """`_values` are MIL variables by ONNX's names."""

        readers = readers_of(model)
        centred: dict[str, np.ndarray | None] = {}  # noqa: RUF012 - of one model, as the class is

        def make_const(self, name: str, array: np.ndarray) -> Var:
            """A constant; every integer dtype as int32, every float dtype but half precision as float32."""
            return super().make_const(name, _plain(array))

        def lower_node(self, node: Node) -> None:
            """Convert one node; raises RuntimeError that names the operator."""
            handler = table.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            if handler is None:
                domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
                raise RuntimeError(f"there is no conversion of {domain}{node.op_type} (node '{_shown(node)}')")
            inputs = [self.get(name) if name else None for name in node.input]
            try:
                outputs = handler(self, node, inputs, _attributes(node))
            except Exception as error:
                message = str(error) or type(error).__name__
                raise RuntimeError(f"node '{_shown(node)}' ({node.op_type}) is not converted: {message}") from error
            for name, value in zip(node.output, outputs, strict=False):
                if name:
                    self._values[name] = self._in_range(node, name, value)

        def _in_range(self, node: Node, name: str, value: Var) -> Var:
            kind = onnx.TensorProto.DataType.Name(dtypes.get(name, 0))
            if kind not in _BITS or node.op_type not in _WRAPPED or value.dtype != self.types.int32:
                return value
            bits, signed = _BITS[kind]
            half = 2 ** (bits - 1) if signed else 0
            shifted = self.mb.add(x=value, y=half) if half else value
            wrapped = self.mb.mod(x=shifted, y=2**bits)
            return self.mb.sub(x=wrapped, y=half) if half else wrapped

        def dtype_of(self, name: str) -> str:
            """ONNX's name of the dtype of a value, `UNDEFINED` where it is not known."""
            return str(onnx.TensorProto.DataType.Name(dtypes.get(name, 0)))

    return Lowerer


def readers_of(model: ModelProto) -> dict[str, list[tuple[Node, int]]]:
    """By the name of a value the nodes that read it, and as which of their inputs; also what the graph returns."""
    import onnx

    found: dict[str, list[tuple[Node, int]]] = {}
    for graph in graphs_in(model.graph):
        for node in graph.node:
            for place, name in enumerate(node.input):
                found.setdefault(name, []).append((node, place))
        for value in graph.output:
            found.setdefault(value.name, []).append((onnx.NodeProto(op_type="Output"), 0))
    return found


def element_types(model: ModelProto) -> dict[str, int]:
    """The dtype of each value as ONNX numbers them, by name, where shape inference finds it."""
    import onnx

    try:
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except onnx.shape_inference.InferenceError:
        graph = model.graph
    found = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        found[value.name] = value.type.tensor_type.elem_type
    return found


def refuse_large_integers(graph: GraphProto) -> None:
    """Raise RuntimeError for a constant beyond 32 bits that counts: Core ML's integers have 32."""
    import numpy as np
    import onnx

    limits = np.iinfo(np.int32)
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            constants.update((node.output[0], a.t) for a in node.attribute if a.name == "value")
    large = {}
    for name, tensor in constants.items():
        if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.UINT64, onnx.TensorProto.UINT32):
            values = onnx.numpy_helper.to_array(tensor)
            if values.size and (values.max() > limits.max or values.min() < limits.min):
                large[name] = values
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name in large and position not in _UNBOUNDED.get(node.op_type, ()):
                worst = max(large[name].ravel().tolist(), key=abs)
                raise RuntimeError(
                    f"node '{_shown(node)}' ({node.op_type}) computes with {worst}, and Core ML's integers have 32 bits"
                )


def _plain(array: object) -> np.ndarray:
    import numpy as np

    array = np.asarray(array)
    if array.dtype.kind in "iu" and array.dtype not in (np.int32, np.int64):
        return array.astype(np.int64)
    if array.dtype.kind == "V" or (array.dtype.kind == "f" and array.dtype != np.float16):  # bfloat16 and other halves
        return array.astype(np.float32)
    return array


def _attributes(node: Node) -> Attributes:
    from onnxsim import coreml_export

    return dict(coreml_export._node_attrs(node))


def _shown(node: Node) -> str:
    """A node's name, or that of its first output, as the file has it: the capture puts `model/` in front."""
    return str(node.name or next(iter(node.output), "")).removeprefix("model/")
