"""What a captured program returns, read from its graph without running it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from builder.artifacts import CapturedProgram

_FLOATING = ("Float", "Half", "Double", "BFloat16")
"""TorchScript's names of floating-point dtypes."""


@dataclass(frozen=True, kw_only=True)
class CapturedOutput:
    """One output: its shape at the captured sizes (None where the graph does not know) and whether it is a float."""

    shape: tuple[int, ...] | None
    is_floating: bool


def captured_outputs(captured: CapturedProgram) -> tuple[CapturedOutput, ...]:
    """Describe the outputs of a trace or an exported program, in order."""
    match captured.method:
        case "export":
            return _exported(captured.program)
        case "onnx":
            return _graph(captured.program.model)
        case _:
            return _traced(captured.program)


def _graph(model: Any) -> tuple[CapturedOutput, ...]:
    """Of an ONNX graph; FLOAT, FLOAT16, DOUBLE and BFLOAT16 are `TensorProto.DataType` 1, 10, 11 and 16."""
    outputs = []
    for value in model.graph.output:
        kind = value.type.tensor_type
        sizes = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
        known = kind.HasField("shape") and None not in sizes
        outputs.append(
            CapturedOutput(
                shape=tuple(int(size) for size in sizes if size is not None) if known else None,
                is_floating=kind.elem_type in (1, 10, 11, 16),
            )
        )
    return tuple(outputs)


def _traced(program: Any) -> tuple[CapturedOutput, ...]:
    values = list(program.graph.outputs())
    if len(values) == 1 and values[0].node().kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
        values = list(values[0].node().inputs())
    outputs = []
    for value in values:
        kind = value.type()
        sizes = kind.sizes() if kind.kind() == "TensorType" else None
        scalar = kind.scalarType() if kind.kind() == "TensorType" else None
        outputs.append(
            CapturedOutput(shape=None if sizes is None else tuple(sizes), is_floating=scalar in (None, *_FLOATING))
        )
    return tuple(outputs)


def _exported(program: Any) -> tuple[CapturedOutput, ...]:
    node = next(node for node in program.graph.nodes if node.op == "output")
    user = {spec.arg.name for spec in program.graph_signature.output_specs if spec.kind.name == "USER_OUTPUT"}
    values = [value.meta["val"] for value in node.args[0] if value.name in user]
    return tuple(
        CapturedOutput(
            shape=tuple(v.shape) if all(isinstance(size, int) for size in v.shape) else None,
            is_floating=v.dtype.is_floating_point,
        )
        for v in values
    )
