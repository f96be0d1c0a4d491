"""ONNX files: inputs with the names, shapes and dtypes that the file declares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builder.analysis.init.draft import Draft
from builder.analysis.init.files import HIGH, as_picture, tensor_section
from builder.errors import SourceError
from builder.model.sources.onnx_graph import feature_names
from builder.model.sources.optional import optional_packages
from builder.spec.base import RESERVED_NAMES

OPEN_SIZES = {2: 224, 3: 224}
"""The sizes that open dimensions of pictures are built at; others are 1 for the first, and 16."""


def inspect_onnx(path: Path, written: str, name: str) -> Draft:
    """Read the file's declarations; raises SourceError when it is damaged."""
    with optional_packages("onnx"):
        import onnx
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf raises types of its own
        raise SourceError(
            f"{path} is damaged, or no ONNX file: {type(error).__name__}: {error}", code="B0302"
        ) from error
    tables = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    gathered = {node.input[1]: tables[node.input[0]][0] for node in graph.node if node.op_type == "Gather"
                and node.input[0] in tables and tables[node.input[0]]}  # fmt: skip
    inputs: dict[str, dict[str, object]] = {}
    why: dict[str, str] = {}
    features = feature_names([value.name for value in graph.input])
    for value in graph.input:
        if value.name in tables:
            continue
        kind, own = value.type.tensor_type, features[value.name]
        reserved = own in RESERVED_NAMES
        own = f"{own}_input" if reserved else own
        dtype = str(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        sizes, is_open = _sizes(kind)
        inputs[own] = tensor_section(sizes, dtype) | ({"source_name": value.name} if reserved else {})
        why[f"input.{own}.shape"] = (
            "The file leaves sizes open: they are built at these, which are A GUESS." if is_open else "As in the file."
        )
        if value.name in gathered:
            inputs[own]["high"] = gathered[value.name]
            why[f"input.{own}.high"] = "The examples of the checks are drawn from 0 to below this: the file's table."
        else:
            why[f"input.{own}.high"] = HIGH
    return Draft(
        name=name,
        title=f"The ONNX model {path.name}.",
        source={"kind": "onnx", "file": written},
        inputs=inputs,
        why=why,
        suggestions=as_picture(inputs),
    )


def _sizes(kind: Any) -> tuple[list[int], bool]:
    """The sizes to build at, and whether the file leaves any of them open."""
    sizes, is_open = [], False
    dimensions = list(kind.shape.dim)
    for index, dimension in enumerate(dimensions):
        if dimension.HasField("dim_value") and dimension.dim_value > 0:
            sizes.append(int(dimension.dim_value))
            continue
        is_open = True
        open_size = OPEN_SIZES.get(index, 16) if len(dimensions) == 4 else 16
        sizes.append(1 if index == 0 else open_size)
    return sizes, is_open
