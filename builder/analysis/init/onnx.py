"""ONNX files: inputs with the names, shapes and dtypes that the file declares."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from builder.analysis.init.draft import Draft
from builder.analysis.init.files import HIGH, as_picture, no_inputs, picture_shape, tensor_section
from builder.errors import SourceError
from builder.model.sources.onnx import make_session
from builder.model.sources.onnx_graph import feature_names, graphs_in, is_quantized_dynamically
from builder.model.sources.optional import optional_packages
from builder.spec.base import RESERVED_NAMES

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, TypeProto, ValueInfoProto

OPEN_SIZES = {2: 224, 3: 224}
"""The sizes that open dimensions of pictures are built at; others are 1 for batches, and the first of `TRIED`."""
TRIED = (16, 64, 256, 1024, 16000)
"""The least of these at which the model runs is what is built: windows of sound have a least length."""
_LOOPS = ("Loop", "Scan")
_PASSED = ("Cast", "Slice", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Identity", "Flatten", "Transpose")
"""Operators after which ids are the same ids."""
MOST_BYTES = 2**28
"""A file that is larger is not run."""
RATE = 16000
_RATES = re.compile(r"(sr|sample_?rate|sampling_?rate)$", re.IGNORECASE)
_LENGTHS = re.compile(r"(^|_)len(s|gths?)?($|_)", re.IGNORECASE)


def inspect_onnx(path: Path, written: str, name: str) -> Draft:
    """Read the file's declarations; raises SourceError when it is damaged."""
    with optional_packages("onnx"):
        import onnx
    try:
        model = onnx.load(str(path), load_external_data=False)
        graph = model.graph
    except Exception as error:  # protobuf raises types of its own
        raise SourceError(
            f"{path} is damaged, or no ONNX file: {type(error).__name__}: {error}", code="B0302"
        ) from error
    if not graph.output:
        raise SourceError(f"{path} is empty, or no ONNX file: nothing in it is returned", code="B0302")
    tables = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    gathered = _gathered(graph, tables)
    inputs: dict[str, dict[str, object]] = {}
    why: dict[str, str] = {}
    features = feature_names([value.name for value in graph.input])
    at = _size_that_runs(model, [value for value in graph.input if value.name not in tables])
    for value in graph.input:
        if value.name in tables:
            continue
        kind, own = value.type.tensor_type, features[value.name]
        reserved = own in RESERVED_NAMES
        own = f"{own}_input" if reserved else own
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        named = {"source_name": value.name} if reserved else {}
        sizes, is_open = _sizes(kind, at)
        inputs[own] = tensor_section(sizes, dtype) | named
        why[f"input.{own}.shape"] = (
            "The file leaves sizes open: they are built at these, which are A GUESS." if is_open else "As in the file."
        )
        if dtype == "uint8" and (picture := picture_shape(sizes, last=True)):
            layout = "RGB" if picture[1] == 3 else "G"
            inputs[own] = {"kind": "image", "shape": picture, "color_layout": layout, "scale": 1} | named
            why[f"input.{own}.scale"] = "The file takes levels of 0 to 255, as bytes."
        elif _is_rate(value.name, dtype, sizes):
            inputs[own] = {"constant": [RATE] * len(sizes) if sizes else RATE} | named
            why[f"input.{own}.constant"] = "A GUESS: how many samples of sound a second has; it is baked in."
        elif _is_length(value.name, dtype, sizes):
            inputs[own] |= {"low": 1, "high": at + 1}
            why[f"input.{own}.low"] = "A GUESS: by its name a length, of up to the size that open dimensions have."
        elif value.name in gathered:
            inputs[own]["high"] = gathered[value.name]
            why[f"input.{own}.high"] = "The examples of the checks are drawn from 0 to below this: the file's table."
        else:
            why[f"input.{own}.high"] = "The file takes booleans: 0 or 1." if dtype == "bool" else HIGH
    if not inputs:
        raise no_inputs(path)
    return Draft(
        name=name,
        title=f"The ONNX model {path.name}.",
        source={"kind": "onnx", "file": written} | ({"dequantize": True} if is_quantized_dynamically(model) else {}),
        inputs=inputs,
        why=why | {"source.dequantize": "Without it the file is refused: it measures scales while it runs."},
        suggestions=as_picture(inputs, last=True),
    )


def _gathered(graph: GraphProto, tables: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """How many rows the table has in which an input is looked up, by its name, wherever its ids pass through."""
    origin = {value.name: value.name for value in graph.input}
    sizes = dict(tables)
    found: dict[str, int] = {}
    for node in graph.node:
        first = node.input[0] if node.input else ""
        if node.op_type == "Gather" and sizes.get(first) and node.input[1] in origin:
            found.setdefault(origin[node.input[1]], sizes[first][0])
        elif node.op_type in _PASSED and first in origin:
            origin[node.output[0]] = origin[first]
        elif node.op_type in ("DequantizeLinear", "Identity", "Cast") and first in sizes:
            sizes[node.output[0]] = sizes[first]
    return found


def _is_rate(name: str, dtype: str, sizes: list[int]) -> bool:
    return dtype.startswith("int") and sizes in ([], [1]) and _RATES.search(name) is not None


def _is_length(name: str, dtype: str, sizes: list[int]) -> bool:
    return dtype.startswith("int") and sizes in ([], [1]) and _LENGTHS.search(name) is not None


def _size_that_runs(model: ModelProto, given: Sequence[ValueInfoProto]) -> int:
    """The first of `TRIED` at which the model runs, or else the first: the size of open dimensions other than batches.

    A file that is large, has its weights elsewhere, loops (it may never end), or leaves nothing open is not run.
    """
    kinds = {value.name: value.type.tensor_type for value in given}
    in_place = all(not tensor.external_data for tensor in model.graph.initializer)
    loops = any(node.op_type in _LOOPS for graph in (*graphs_in(model.graph), *model.functions) for node in graph.node)
    if (
        not in_place
        or loops
        or model.ByteSize() > MOST_BYTES
        or all(_sizes(k, 1) == _sizes(k, 2) for k in kinds.values())
    ):
        return TRIED[0]
    try:
        session = make_session(model)
    except Exception:  # the build says what is wrong with the file; a size is all that is asked here
        return TRIED[0]
    for size in TRIED:
        try:
            session.run(None, {name: _example(name, kind, size) for name, kind in kinds.items()})
        except Exception:  # onnxruntime has an exception for each of its status codes
            continue
        return size
    return TRIED[0]


def _example(name: str, kind: TypeProto.Tensor, at: int) -> np.ndarray:
    import onnx

    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
    sizes, _ = _sizes(kind, at)
    if _is_rate(name, str(dtype), sizes):
        return np.full(sizes, RATE, dtype)
    return np.full(sizes, at if _is_length(name, str(dtype), sizes) else 0, dtype)


def _sizes(kind: TypeProto.Tensor, at: int) -> tuple[list[int], bool]:
    """The sizes to build at, and whether the file leaves any of them open, which are `at` unless of batches."""
    sizes, is_open = [], False
    dimensions = list(kind.shape.dim)
    for index, dimension in enumerate(dimensions):
        if dimension.HasField("dim_value") and dimension.dim_value > 0:
            sizes.append(int(dimension.dim_value))
            continue
        is_open = True
        of_state = index == 1 and len(dimensions) == 3 and sizes[0] > 1  # layers, batch, hidden
        is_batch = index == 0 or of_state or "batch" in dimension.dim_param.lower()
        sizes.append(1 if is_batch else OPEN_SIZES.get(index, at) if len(dimensions) == 4 else at)
    return sizes, is_open
