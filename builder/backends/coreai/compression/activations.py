"""The values between operators of a Core AI program as 8-bit integers, on the ranges that calibration data gives.

Where pairs of `quantize` and `dequantize` stand is as coremltools has it (`insert_prefix_quantize_dequantize_pair`,
`insert_suffix_quantize_dequantize_pair`): around convolutions, products with a weight, sums and pools, behind the
activation where one follows. A Core AI program has the bias of a layer, its padding and the division of a pool as
operators of their own; they belong to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from builder.artifacts.stages import SkippedLayer
from builder.backends.coreai import adapter
from builder.backends.coreai.compression.quantize import scale_blocks
from builder.backends.coreai.modules import RELAYING
from builder.backends.coreml.compression.selection import select
from builder.backends.ranges import Range, join_ranges, measure_ranges, why_no_scale
from builder.errors import ConversionError
from builder.spec.compression import QuantizeActivations

if TYPE_CHECKING:
    from builder.backends.coreai.adapter import Graph, Operation, Value

_CONVOLUTIONS = ("conv2d", "conv3d")
_PRODUCTS = ("batch_matmul", "broadcasting_batch_matmul")
_POOLS = {"sum_pool_2d": "avg_pool", "sum_pool_3d": "avg_pool", "max_pool_2d": "max_pool", "max_pool_3d": "max_pool"}
_AVERAGE = "avg_pool"
"""How coreai-torch calls the function that is a pool; what stands in it is its own."""
_ADD = "broadcasting_add"
_ACTIVATIONS = ("relu", "sigmoid", "tanh", "broadcasting_maximum", "broadcasting_minimum")
"""What may follow before the value is quantized: limits of ReLU6 are operators here."""
_BELONGS = {"conv": (_ADD,), "linear": (_ADD,), "avg_pool": ("broadcasting_mul", "broadcasting_divide", "divide")}
"""By kind of layer, the operators with a constant that are the end of it."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Operators of a program that a step takes as one."""

    name: str
    """The path of the module whose weight it has, or what the runtime calls its first value."""
    names: frozenset[str]
    types: frozenset[str]
    inputs: tuple[tuple[Operation, int], ...]
    """The places, operator and operand, at which it takes values."""
    result: Value


def quantize_activations(
    name: str,
    step: QuantizeActivations,
    plain: Path,
    current: Path,
    samples: Sequence[Mapping[str, object]],
    destination: Path,
) -> tuple[list[str], list[SkippedLayer]]:
    """Write `plain` with pairs of `quantize` and `dequantize`; the layers changed, and the others with the reason.

    Ranges are those of `current`: the same program with the weights that steps before have left. Raises
    ConversionError where nothing is left to quantize.
    """
    from coreml_runtime.coreai.loading import read_names

    program = adapter.load_program(plain)
    with adapter.module_of(program).context:
        graph = adapter.main_graph(program)
        named = _named(graph, read_names(plain))
        layers = list(_layers(graph, named))
        chosen = select(name, step, layers, what="operator", types=attrgetter("types"), names=attrgetter("names"))
        ranges = measure_ranges(_all_values(current), samples, lambda _: None)
        join_ranges(ranges, _concatenated(graph, named))
        reasons = {layer.name: _why_not(layer, named, ranges) for layer in chosen}
        taken = [layer for layer in chosen if reasons[layer.name] is None]
        skipped = [SkippedLayer(step=name, name=each, reason=why) for each, why in reasons.items() if why is not None]
        if not taken:
            message = skipped[0].reason if skipped else "the model has no conv, linear, add, avg_pool or max_pool"
            raise ConversionError(
                f"compression {name} changed nothing: {message}", code="B0409", key=f"compression.{name}"
            )
        _insert(taken, named, ranges, symmetric=step.mode == "linear_symmetric")
        program.save_asset(destination)
    return [layer.name for layer in taken], skipped


def _all_values(asset: Path) -> Callable[[Mapping[str, object]], Mapping[str, object]]:
    """What returns every value that an asset computes for a sample, by the runtime's names; states go on."""
    import coreml_runtime as runtime

    loaded = runtime.load(asset)
    state = loaded.make_state() if loaded.states else None
    return lambda sample: loaded.predict(sample, state=state, intermediates="all")


def _named(graph: Graph, names: Sequence[tuple[str, ...]]) -> dict[Value, str]:
    """What the runtime calls each value of a function itself."""
    operations = adapter.operations_of(graph)
    assert len(operations) == len(names), "both read one file"
    takes, _ = adapter.interface(graph)
    found = {value: name for value, (name, _) in zip(adapter.arguments_of(graph), takes, strict=True)}
    for operation, given in zip(operations, names, strict=True):
        found |= dict(zip(operation.results, given, strict=True))
    return found


def _layers(graph: Graph, named: Mapping[Value, str]) -> Iterator[Layer]:
    """The layers that can be quantized, in their order."""
    ends: set[Operation] = set()
    for operation in adapter.operations_of(graph):
        kind, operator = _kind(operation), adapter.plain_name(operation)
        if kind is None or operation in ends:
            continue
        last = operation
        while (following := _next(last, _BELONGS.get(kind, ()))) is not None:
            last = following
            ends.add(last)
            if kind != "avg_pool":
                break  # one bias
        while (following := _next(last, _ACTIVATIONS)) is not None:
            last = following
        weight = _weight(operation) if kind in ("conv", "linear") else None
        own = {named[operation.results[0]], named[last.results[0]]}
        path = None if weight is None else weight.removesuffix(".weight")
        yield Layer(
            name=path or named[operation.results[0]],
            names=frozenset({*own, *(() if weight is None else (weight, weight.removesuffix(".weight")))}),
            types=frozenset({kind, operator}),
            inputs=tuple(_start(operation, place) for place in ((0, 1) if kind == "add" else (0,))),
            result=last.results[0],
        )


def _kind(operation: Operation) -> str | None:
    """What recipes call a layer that begins with this operator; None where none does."""
    operator = adapter.plain_name(operation)
    if operator in _CONVOLUTIONS:
        return "conv"
    if operator in _PRODUCTS and _constant(operation.operands[1]) is not None:
        return "linear"
    if operator == "invoke" and adapter.callee(operation).startswith(_AVERAGE):
        return "avg_pool"
    return "add" if operator == _ADD else _POOLS.get(operator)


def _start(operation: Operation, place: int) -> tuple[Operation, int]:
    """Where a layer takes a value: in front of the padding with zeros that belongs to a convolution."""
    given = adapter.owner(operation.operands[place])
    if given is not None and adapter.plain_name(given) == "pad" and adapter.has_one_use(given.results[0]):
        value = _constant(given.operands[2])
        if value is not None and not adapter.constant_array(value).any():
            return given, 0
    return operation, place


def _next(operation: Operation, kinds: Sequence[str]) -> Operation | None:
    """The operator of one of these kinds that alone reads a result, and nothing else but constants; None without."""
    result = operation.results[0]
    if not adapter.has_one_use(result):
        return None
    ((user, place),) = adapter.uses(result)
    others = [operand for number, operand in enumerate(user.operands) if number != place]
    if adapter.plain_name(user) not in kinds or any(_constant(other) is None for other in others):
        return None
    return user


def _constant(value: Value) -> Operation | None:
    """The constant that a value is, maybe re-laid; None where it is computed."""
    made = adapter.owner(value)
    while made is not None and adapter.plain_name(made) in RELAYING:
        made = adapter.owner(made.operands[0])
    return made if made is not None and adapter.plain_name(made) == "constant" else None


def _weight(operation: Operation) -> str | None:
    """The name of the weight that a layer computes with."""
    constant = _constant(operation.operands[1])
    return None if constant is None else adapter.resource_name(constant)


def _concatenated(graph: Graph, named: Mapping[Value, str]) -> Iterator[set[str]]:
    for operation in adapter.operations_of(graph):
        if adapter.plain_name(operation) == "concat":
            values = (*operation.operands, *operation.results)
            yield {named[value] for value in values if value in named}


def _why_not(layer: Layer, named: Mapping[Value, str], ranges: Mapping[str, Range]) -> str | None:
    """Why a layer stays as it is; None where it does not."""
    given = [operation.operands[place] for operation, place in layer.inputs]
    if any(_constant(value) is not None for value in given):
        return "one of its inputs is a constant"
    makers = [adapter.owner(value) for value in given]
    if any(made is not None and adapter.plain_name(made) == "dequantize" for made in makers):
        return "its values are 8-bit integers already"
    reasons = (why_no_scale(named[value], ranges) for value in (*given, layer.result))
    return next((reason for reason in reasons if reason is not None), None)


def _insert(
    layers: Sequence[Layer], named: Mapping[Value, str], ranges: Mapping[str, Range], *, symmetric: bool
) -> None:
    """Quantize what layers take and what they give to other operators.

    Given:   %y = conv2d %x, %w, …;  %z = add %y, %b
    Result:  %q = quantize %x, …;  %d = dequantize %q, …;  %y = conv2d %d, %w, …;  the same behind %z
    """
    given = {layer.result for layer in layers if adapter.is_read(layer.result)}
    readers: dict[Value, list[tuple[Operation, int]]] = {value: list(adapter.uses(value)) for value in given}
    for layer in layers:
        for operation, place in layer.inputs:
            readers.setdefault(operation.operands[place], []).append((operation, place))
    for value, places in readers.items():
        found = ranges[named[value]]
        ends = np.array([found["rmin"], found["rmax"]], dtype=np.float32)
        scaled = scale_blocks(ends, [0], 8, signed=True, symmetric=symmetric)
        made = adapter.quantized(value, float(scaled.scale[0]), int(scaled.zero[0]))
        for operation, place in places:
            operation.operands[place] = made
