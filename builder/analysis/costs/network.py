"""From a neural network to the steps that are counted: its layers are asked for shapes with tensors without numbers.

A neural network declares the shapes of its inputs alone. Its weights are not read but for small constants, of which
shapes may be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from builder.analysis.costs.asking import FAILURES
from builder.analysis.costs.graph import Graph, Step
from builder.analysis.costs.values import Outlines, Shape
from coreml_runtime.binding import Known
from coreml_runtime.features import read_interface
from coreml_runtime.mapping import Buffer
from coreml_runtime.nn import layers
from coreml_runtime.nn.layer import Layer, Source
from coreml_runtime.nn.network import read_border
from coreml_runtime.nn.program import read_layers
from coreml_runtime.nn.weights import read_weights, stored_size
from coreml_runtime.prepack import without_packing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.message import Message

_CONSTANTS = frozenset({"loadConstant", "loadConstantND"})
_VIEWS = frozenset(
    {"reshape", "reshapeStatic", "rankPreservingReshape", "flatten", "flattenTo2D", "squeeze", "expandDims"}
)
_RECURRENT = frozenset({"simpleRecurrent", "gru", "uniDirectionalLSTM", "biDirectionalLSTM"})
_CONTROL = frozenset({"branch", "loop", "loopBreak", "loopContinue"})
_FLOAT = 4
"""Bytes of a value: all are float32 as the format declares them."""
_FEW = 1024


def read_network_graph(specification: Message, content: Buffer, sizes: Mapping[str, Shape]) -> Graph:
    """The steps of a NeuralNetwork message of any kind; `sizes` are the shapes that its inputs are given in."""
    interface = read_interface(specification.description)
    network = getattr(specification, specification.WhichOneof("Type"))
    reader = _Reader(content=content)
    with torch.inference_mode(), Outlines(), without_packing():
        given = {name: torch.empty(shape, device="meta") for name, shape in sizes.items()}
        values = read_border(specification).values(given)
        names = {name: reader.define(name, value) for name, value in values.items()}
        steps = tuple(reader.steps(network.layers))
    outputs = [reader.current[name] for name in interface.outputs if name in reader.current]
    return Graph(steps=steps, bytes=reader.bytes, inputs=tuple(names.values()), outputs=tuple(outputs))


@dataclass(frozen=True, kw_only=True)
class _OutlinedLayer(Layer):
    """A layer that gives its weights' shapes, and counts them."""

    shapes: list[Shape] = field(default_factory=list)
    stored: list[int] = field(default_factory=list)

    def weights(self, message: object, shape: Sequence[int], *, axis: int = 0) -> Tensor:
        """Without numbers, but for small constants that later layers may make shapes of."""
        self._count(message, tuple(shape))
        if self.kind in _CONSTANTS and prod(shape) <= _FEW:
            return read_weights(message, shape, axis=axis, content=self.source.content)
        return torch.empty(tuple(shape), device="meta")

    def later(self, message: object, shape: Sequence[int]) -> Known:
        """The same."""
        self._count(message, tuple(shape))
        return Known(torch.empty(tuple(shape), device="meta"))

    def _count(self, message: object, shape: Shape) -> None:
        self.shapes.append(shape)
        self.stored.append(stored_size(message, self.source.content))


@dataclass(kw_only=True)
class _Reader:
    """Carries shapes through layers. A name that is written again is another value: `current` says which."""

    content: Buffer
    bytes: dict[str, int] = field(default_factory=dict)
    values: dict[str, Tensor | None] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    constants: dict[str, int] = field(default_factory=dict)
    """By value of a layer that only holds it: the bytes in the file."""

    def define(self, name: str, value: Tensor | None) -> str:
        """A new value of that name; None where its shape is not known."""
        fresh, number = name, 1
        while fresh in self.values:
            fresh, number = f"{name} ({number})", number + 1
        self.current[name] = fresh
        self.values[fresh] = value
        if value is not None:
            self.bytes[fresh] = _FLOAT * value.numel()
        return fresh

    def steps(self, messages: Iterable[Message]) -> Iterator[Step]:
        """The steps of layers in their order."""
        for layer in read_layers(messages, Source(content=self.content)):
            if layer.kind in _CONTROL:
                yield from self._control(layer)
            else:
                yield from self._layer(_outlined(layer))

    def _layer(self, layer: _OutlinedLayer) -> Iterator[Step]:
        names = [self.current.get(name, name) for name in layer.inputs]
        given = [self.values.get(name) for name in names]
        results = _shapes(layer, given)
        constants = {name: self.constants[name] for name in names if name in self.constants}
        written = [self.define(name, value) for name, value in zip(layer.outputs, results, strict=True)]
        if layer.kind in _CONSTANTS:
            self.constants |= {name: sum(layer.stored) for name in written}
            return
        known = layer.kind in layers() and None not in results
        held = {f"{layer.name or written[0]}.{place}": size for place, size in enumerate(layer.stored)}
        dense = {f"{layer.name}.{place}": _FLOAT * prod(shape) for place, shape in enumerate(layer.shapes)}
        reads = [name for name in dict.fromkeys(names) if name not in self.constants]
        yield Step(
            name=layer.name or layer.outputs[0],
            kind=layer.kind or "unknown",
            reads=tuple(reads),
            writes=tuple(written),
            macs=_macs(layer, given, results) if known else None,
            stored=held | constants,
            computed=dense | {name: self.bytes.get(name, 0) for name in constants},
            is_view=layer.kind in _VIEWS and bool(reads),
        )

    def _control(self, layer: Layer) -> Iterator[Step]:
        """A branch with its first way, a loop with one turn: what decides is a value."""
        p = layer.parameters
        inner: tuple[Step, ...] = ()
        turns, open_ = 1, False
        if layer.kind == "branch":
            ways = [tuple(self.steps(way.layers)) for way in (p.ifBranch, p.elseBranch)]
            inner = max(ways, key=lambda way: sum(step.macs or 0 for step in way))
        elif layer.kind == "loop":
            inner = (*self.steps(p.conditionNetwork.layers), *self.steps(p.bodyNetwork.layers))
            fixed = not p.conditionVar and not layer.inputs
            turns, open_ = int(p.maxLoopIterations) if fixed else 1, not fixed
        reads = tuple(dict.fromkeys(name for step in inner for name in step.reads))
        writes = tuple(name for step in inner for name in step.writes)
        if inner:
            yield Step(
                name=layer.name, kind=layer.kind, reads=tuple(n for n in reads if n not in writes), writes=writes,
                macs=0, inner=inner, turns=turns, is_open=open_,
            )  # fmt: skip


def _outlined(layer: Layer) -> _OutlinedLayer:
    return _OutlinedLayer(
        name=layer.name, kind=layer.kind, inputs=layer.inputs, outputs=layer.outputs, parameters=layer.parameters,
        source=replace(layer.source),
    )  # fmt: skip


def _shapes(layer: _OutlinedLayer, given: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """What the layer writes, without numbers; None for each value where that takes numbers."""
    nothing: Sequence[Tensor | None] = [None] * len(layer.outputs)
    bind = layers().get(layer.kind)
    if bind is None or any(value is None for value in given):
        return nothing
    try:
        kernel = bind(layer)
        if layer.kind in _RECURRENT:
            return _recurrent(layer, given)
        result = kernel(*given)
    except FAILURES:
        return nothing
    results = result if isinstance(result, tuple) else (result,)
    found = [value if value.dim() else value.reshape(1) for value in results]
    return found[: len(layer.outputs)] if len(found) >= len(layer.outputs) else nothing


def _recurrent(layer: _OutlinedLayer, given: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """The sequence (S or 1, B, D * H, 1, 1) and the last states (1, B, H, 1, 1); the kernels look at numbers."""
    x, p = given[0], layer.parameters
    assert x is not None
    size, options = int(p.outputVectorSize), getattr(p, "params", p)
    steps, batch = x.shape[0] if options.sequenceOutput else 1, x.shape[1]
    width = size * (2 if layer.kind == "biDirectionalLSTM" else 1)
    sequence = torch.empty((steps, batch, width, 1, 1), device="meta")
    return [sequence, *(torch.empty((1, batch, size, 1, 1), device="meta") for _ in layer.outputs[1:])]


def _macs(layer: _OutlinedLayer, given: Sequence[Tensor | None], results: Sequence[Tensor | None]) -> int:
    formula = _PRODUCTS.get(layer.kind)
    if formula is None:
        return 0
    inputs = [value for value in given if value is not None]
    outputs = [value for value in results if value is not None]
    return formula(layer, inputs, outputs)


def _convolution(layer: _OutlinedLayer, given: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """Each output value takes C_in / groups * K products; of a deconvolution each input value C_out / groups * K."""
    weight = tuple(given[1].shape) if len(given) > 1 else max(layer.shapes, key=len)
    turned = layer.parameters.isDeconvolution
    return (given[0] if turned else results[0]).numel() * prod(weight[1:])


def _inner_product(layer: _OutlinedLayer, _given: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    return results[0].numel() * int(layer.parameters.inputChannels)


def _batched_matmul(layer: _OutlinedLayer, given: Sequence[Tensor], results: Sequence[Tensor]) -> int:
    """Each output value is a sum over the axis that both share."""
    left, turned = given[0], layer.parameters.transposeA
    return results[0].numel() * left.shape[-2 if turned and left.dim() > 1 and len(given) > 1 else -1]


def _cells(layer: _OutlinedLayer, given: Sequence[Tensor], _results: Sequence[Tensor]) -> int:
    """Each step takes the products of all weight matrices."""
    steps, batch = given[0].shape[:2]
    return steps * batch * sum(prod(shape) for shape in layer.shapes if len(shape) > 1)


def _dot(_layer: _OutlinedLayer, given: Sequence[Tensor], _results: Sequence[Tensor]) -> int:
    return given[0].numel()


_PRODUCTS: Mapping[str, Callable[[_OutlinedLayer, Sequence[Tensor], Sequence[Tensor]], int]] = {
    **dict.fromkeys(("convolution", "convolution3d"), _convolution),
    **dict.fromkeys(_RECURRENT, _cells),
    "innerProduct": _inner_product,
    "batchedMatmul": _batched_matmul,
    "dot": _dot,
}
