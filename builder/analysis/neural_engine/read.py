"""From a file to what the rules look at, by the runtime's reader; weights are not read, coremltools not imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from builder.analysis.neural_engine.model import Interface, Model, Operator, Tensor
from coreml_runtime.features import ArrayFeature, read_interface
from coreml_runtime.ops.context import UNKNOWN_RANK, TensorType
from coreml_runtime.package import open_package
from coreml_runtime.program import Block, Named, Operation, Reference
from coreml_runtime.reader import read_function

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

_SMALL = 16
"""Constants with more values are weights."""
_CONSTANT = "const"
_LAYERS = {
    "convolution": "conv",
    "innerProduct": "linear",
    "batchedMatmul": "matmul",
    "uniDirectionalLSTM": "lstm",
    "biDirectionalLSTM": "lstm",
    "simpleRecurrent": "rnn",
    "gatherND": "gather_nd",
    "gatherAlongAxis": "gather_along_axis",
    "embedding": "gather",
    "embeddingND": "gather",
    "argSort": "argsort",
    "topK": "topk",
    "convolution3d": "conv",
}
"""Layers of a neural network that MIL calls otherwise."""


def read_model(path: Path) -> Model:
    """Read the file at `path`. Raises ModelError and UnsupportedError of the runtime."""
    package = open_package(path)
    specification = package.specification
    inputs = {
        name: Interface(name=name, flexible=_flexible(feature))
        for described in (specification.description, *specification.description.functions)
        for name, feature in read_interface(described).inputs.items()
    }
    return Model(inputs=tuple(inputs.values()), operators=tuple(_operators(specification)))


def _flexible(feature: object) -> str | None:
    if getattr(feature, "enumerated", ()):
        return "enumerated"
    ranges = feature.ranges if isinstance(feature, ArrayFeature) else ()
    wide = any(high is None or low != high for low, high in ranges)
    return "range" if wide or getattr(feature, "width_range", None) else None


def _operators(specification: Message) -> Iterator[Operator]:
    kind = specification.WhichOneof("Type")
    if kind == "mlProgram":
        for name, message in sorted(specification.mlProgram.functions.items()):
            function = read_function(name, message, _no_weights)
            known = {entry.name: _tensor(entry) for entry in function.inputs}
            yield from _block(function.block, {name: t for name, t in known.items() if t is not None}, {})
    elif kind.startswith("neuralNetwork"):
        yield from _layers(getattr(specification, kind).layers)
    elif kind.startswith("pipeline"):
        pipeline = getattr(specification, kind)
        for stage in getattr(pipeline, "pipeline", pipeline).models:
            yield from _operators(stage)


def _no_weights(file_name: str, offset: int, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:  # noqa: ARG001
    """A tensor without memory, instead of one on the weight file."""
    return torch.empty(shape, device="meta")


def _block(block: Block, known: dict[str, Tensor], values: dict[str, object]) -> Iterator[Operator]:
    """The operators of a block; `known` and `values` are tensors and constants by name, of enclosing blocks too."""
    known, values = dict(known), dict(values)
    for operation in block.operations:
        constant = operation.inputs.get("val") if operation.type == _CONSTANT else None
        for output in operation.outputs:
            if (tensor := _tensor(output)) is not None:
                known[output.name] = tensor
            if constant is not None:
                values[output.name] = _value(constant[0])
        if operation.type != _CONSTANT:
            yield _operation(operation, known, values)
        for inner in operation.blocks:
            yield from _block(inner, known, values)


def _operation(operation: Operation, known: Mapping[str, Tensor], values: Mapping[str, object]) -> Operator:
    inputs: dict[str, Tensor] = {}
    constants: dict[str, object] = {}
    for name, argument in operation.inputs.items():
        if len(argument) != 1:
            continue
        (one,) = argument
        tensor = known.get(one.name) if isinstance(one, Reference) else _declared(one.type)
        value = values.get(one.name) if isinstance(one, Reference) else _value(one)
        if tensor is not None:
            inputs[name] = tensor
        if value is not None:
            constants[name] = value
    outputs = tuple(tensor for output in operation.outputs if (tensor := _tensor(output)) is not None)
    name = operation.outputs[0].name if operation.outputs else operation.name
    return Operator(kind=operation.type, name=name, outputs=outputs, inputs=inputs, constants=constants)


def _tensor(named: Named) -> Tensor | None:
    return _declared(named.type)


def _declared(declared: object) -> Tensor | None:
    if not isinstance(declared, TensorType) or declared.shape == UNKNOWN_RANK:
        return None
    return Tensor(dtype=declared.dtype, shape=declared.shape)


def _value(constant: object) -> Any:
    """A small constant as a plain value; None for weights."""
    value = getattr(constant, "value", None)
    if isinstance(value, torch.Tensor):
        return value.tolist() if value.numel() <= _SMALL and not value.is_meta else None
    return value if isinstance(value, str | tuple) else None


def _layers(messages: Iterable[Message]) -> Iterator[Operator]:
    for message in messages:
        kind = message.WhichOneof("layer") or ""
        constants: dict[str, object] = {}
        if kind == "convolution":
            constants = {"dilations": list(message.convolution.dilationFactor) or [1, 1]}
            constants["kernel"] = list(message.convolution.kernelSize) or [3, 3]
        yield Operator(kind=_LAYERS.get(kind, kind), name=message.name, constants=constants)
