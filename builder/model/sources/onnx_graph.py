"""Changes to an ONNX file before it runs: dimensions of -1, inputs that are baked in, names of features."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from builder.errors import SourceError
from builder.model.sources.script_archive import refuse_blowup
from builder.spec.inputs import ConstantInput

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto
    from onnxruntime import InferenceSession

_DYNAMIC = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger",
            "MatMulIntegerToFloat", "ConvIntegerToFloat")  # fmt: skip
"""Operators of dynamic quantization: scales are measured while the model runs."""


def as_feature(name: str) -> str:
    """A name as Core ML and Swift accept it: `input.1` becomes `input_1`."""
    plain = "".join(c if c.isalnum() or c == "_" else "_" for c in name)
    return plain if plain.isidentifier() else f"_{plain}"


def feature_names(names: Sequence[str]) -> dict[str, str]:
    """Each of the file's names as a feature, no two alike: of `a.b` and `a_b` the second keeps its name."""
    features = {name: name for name in names if as_feature(name) == name}
    for name in names:
        plain, number = as_feature(name), 2
        feature = plain
        while name not in features and feature in features.values():
            feature, number = f"{plain}_{number}", number + 1
        features.setdefault(name, feature)
    return {name: features[name] for name in names}


def opset_of(model: ModelProto) -> int:
    """The version of ONNX's own operators that a model uses."""
    return max((int(used.version) for used in model.opset_import if used.domain in ("", "ai.onnx")), default=1)


def open_negative_sizes(model: ModelProto) -> None:
    """Make dimensions of -1, which some exporters write for sizes that are open, what ONNX has for that: no value."""
    for graph in graphs_in(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            for dimension in value.type.tensor_type.shape.dim:
                if dimension.HasField("dim_value") and dimension.dim_value < 0:
                    dimension.Clear()


def declare_types(model: ModelProto, session: InferenceSession) -> None:
    """Write the types that onnxruntime finds for outputs whose types a file leaves out, and shapes that are known."""
    import onnx

    names = {f"tensor({name})": kind for name, kind in _TYPES.items()}
    for value, found in zip(model.graph.output, session.get_outputs(), strict=True):
        kind = value.type.tensor_type
        if value.type.WhichOneof("value") in (None, "tensor_type") and found.type in names:
            kind.elem_type = onnx.TensorProto.DataType.Value(names[found.type])


_TYPES = {
    "bool": "BOOL", "float": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16", "double": "DOUBLE", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32",
    "uint64": "UINT64", "string": "STRING",
}  # fmt: skip
"""ONNX's name of what onnxruntime calls so."""


def channels_first(model: ModelProto, value: ValueInfoProto) -> None:
    """Let an input be (N, C, H, W) where the file takes (N, H, W, C); its name stays.

    Given:   %x (1, 8, 8, 3);  %y = Relu(%x)
    Result:  %x (1, 3, 8, 8);  %x/last = Transpose(%x, [0, 2, 3, 1]);  %y = Relu(%x/last)
    """
    from onnx import helper

    last = f"{value.name}/last"
    for graph in graphs_in(model.graph):
        for node in graph.node:
            node.input[:] = [last if name == value.name else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Transpose", [value.name], [last], perm=[0, 2, 3, 1]))
    sizes = value.type.tensor_type.shape.dim
    channels = copy.deepcopy(sizes[3])
    del sizes[3]
    sizes.insert(1, channels)


def is_quantized_dynamically(model: ModelProto) -> bool:
    """Whether some operator of a file measures a scale while the model runs, or computes with what one measured."""
    return any(node.op_type in _DYNAMIC for graph in graphs_in(model.graph) for node in graph.node)


def refuse_quantized(model: ModelProto, path: Path, *, offers: bool = True) -> None:
    """Raise SourceError for a file with operators of dynamic quantization or on integers that Core ML does not have.

    `offers` says whether to name `source.dequantize` where something is measured that it takes away.
    """
    offers = offers and any(n.op_type.startswith("Dynamic") for graph in graphs_in(model.graph) for n in graph.node)
    before = "take the file from before it was quantized, with `- compression: int8` in the defaults list"
    for graph in graphs_in(model.graph):
        for node in graph.node:
            if node.op_type in _DYNAMIC:
                raise SourceError(
                    f"{path} is quantized dynamically: {node.op_type} measures a scale while the model runs, "
                    "which nothing in Core ML does",
                    code="B0318",
                    hint=f"write `dequantize: true` under `source`: its weights, all else in float; or {before}"
                    if offers
                    else before,
                    key="source.file",
                )
            if node.op_type.startswith("QLinear") or node.op_type.startswith("QGemm"):
                raise SourceError(
                    f"{path} computes with quantized integers: Core ML has nothing for {node.op_type}",
                    code="B0318",
                    hint="quantize it with QDQ nodes (quant_format=QuantFormat.QDQ), or take the file from before",
                    key="source.file",
                )


def bake_in(model: ModelProto, constants: Mapping[str, tuple[str, ConstantInput]], path: Path) -> None:
    """Make constants of inputs; `constants` gives, by the file's own name, the recipe's name and its constant."""
    import onnx

    for own, (name, given) in constants.items():
        value = next(value for value in model.graph.input if value.name == own)
        array = _constant(value, name, given, path)
        _drop_initializer(model.graph, own)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, own))
        model.graph.input.remove(value)


def change_weights(model: ModelProto, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change all constants of float32 that have several elements; a single one is a setting, such as an epsilon."""
    import onnx

    for graph in graphs_in(model.graph):
        constants = [attribute.t for node in graph.node if node.op_type == "Constant" for attribute in node.attribute]
        for tensor in (*graph.initializer, *constants):
            if tensor.data_type == onnx.TensorProto.FLOAT and math.prod(tensor.dims) > 1:
                array = torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
                tensor.CopyFrom(onnx.numpy_helper.from_array(change(array).numpy(), tensor.name))


def free_initializers(model: ModelProto, names: Sequence[str]) -> None:
    """Make inputs without a default of these, which the app gives."""
    for name in names:
        _drop_initializer(model.graph, name)


def _drop_initializer(graph: GraphProto, name: str) -> None:
    for tensor in [tensor for tensor in graph.initializer if tensor.name == name]:
        graph.initializer.remove(tensor)


def _constant(value: ValueInfoProto, name: str, given: ConstantInput, path: Path) -> np.ndarray:
    """The constant in the dtype and the shape that the file declares; raises SourceError where it does not fit."""
    import onnx

    kind, key = value.type.tensor_type, f"input.{name}.constant"
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    plain = np.asarray(given.constant)
    with np.errstate(all="ignore"):
        array = plain.astype(dtype)
    floating = np.issubdtype(dtype, np.floating)
    if not floating and not np.array_equal(array.astype(np.float64), plain.astype(np.float64)):
        raise SourceError(f"{path} takes {name} as {dtype}, and {given.constant} is none", code="B0316", key=key)
    sizes = [int(d.dim_value) if d.HasField("dim_value") else -1 for d in kind.shape.dim]
    if not kind.HasField("shape"):
        return array
    if array.ndim == 0 and -1 not in sizes:
        return np.full(sizes, array, dtype)
    if len(sizes) != array.ndim or any(s not in (-1, w) for s, w in zip(sizes, array.shape, strict=True)):
        shown = ", ".join("?" if size == -1 else str(size) for size in sizes)
        raise SourceError(
            f"{path} takes {name} of shape ({shown}), and the constant is {array.shape}", code="B0316", key=key
        )
    return array


def graphs_in(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and those inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
                yield from graphs_in(inner)


def refuse_growing_functions(model: ModelProto) -> None:
    """Raise RefusedArchiveError where functions of the file call themselves, or grow beyond all bounds when inlined.

    The checker, onnxruntime and the inliner all put them in where they are called: each calls the next one twice, say.
    """
    functions = {_qualified(each.domain, each.name, each.overload): each.node for each in model.functions}
    own = {name: _calls(nodes, functions) for name, nodes in functions.items()}
    refuse_blowup({**own, "": _calls(model.graph.node, functions)})


def _qualified(domain: str, name: str, overload: str) -> str:
    return "::".join((domain, name, overload)).rstrip(":")


def _calls(nodes: Iterable[NodeProto], functions: Container[str]) -> tuple[int, tuple[str, ...]]:
    """How many nodes there are, those of nested graphs included, and which functions they call."""
    waiting, count, called = [iter(nodes)], 0, []
    while waiting:
        node = next(waiting[-1], None)
        if node is None:
            waiting.pop()
            continue
        count += 1
        name = _qualified(node.domain, node.op_type, node.overload)
        if name in functions:
            called.append(name)
        for attribute in node.attribute:
            waiting += [iter(graph.node) for graph in (attribute.g, *attribute.graphs)]
    return count, tuple(called)
