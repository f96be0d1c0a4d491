"""Weights of a neural network (format mlmodel) as integers or indices, by coremltools' quantization_utils."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from builder.artifacts.stages import SkippedLayer
from builder.backends.coreml.compression.selection import select_weights
from builder.backends.coreml.compression.steps import Step, nothing_changed
from builder.backends.coreml.compression.weights import Weight
from builder.spec.compression import LinearQuantize, Palettize

if TYPE_CHECKING:
    from coremltools.models import MLModel
    from google.protobuf.message import Message

_LAYERS = frozenset(
    {
        "convolution", "innerProduct", "batchedMatmul", "embedding", "embeddingND", "simpleRecurrent", "gru",
        "uniDirectionalLSTM", "biDirectionalLSTM",
    }
)  # fmt: skip
"""Layers with matrices; the few values of the others, and all biases, stay in float32."""


def compress_network(model: MLModel, step: Step, quantize: Callable[..., MLModel]) -> MLModel:
    """A new model with the chosen layers' weights of `model` compressed; `quantize` is coremltools' quantize_weights.

    Raises ConversionError where the step names something unknown or changes nothing.
    """
    layers = _network(model._spec).layers
    weights = [
        Weight(
            name=layer.name,
            slots=((layer.name, "weights"),),
            op_types=frozenset({layer.WhichOneof("layer")}),
            size=max(_sizes(getattr(layer, layer.WhichOneof("layer"))), default=0),
            form=(None,),
        )
        for layer in layers
        if layer.WhichOneof("layer") in _LAYERS
    ]
    chosen = select_weights(step.name, step.settings, weights)
    threshold = step.settings.weight_threshold
    step.changed += [weight.name for weight in chosen if weight.size > threshold]
    step.skipped += [
        SkippedLayer(step=step.name, name=w.name, reason=f"{w.size} elements, and weight_threshold is {threshold}")
        for w in chosen
        if w.size <= threshold
    ]
    if not step.changed:
        raise nothing_changed(step, [])
    with step.progress.bar(f"compress {step.name}", None, unit="it"):
        return quantize(model, **_arguments(step), selector=_selector(frozenset(step.changed)))


def _arguments(step: Step) -> Mapping[str, object]:
    match step.settings:
        case LinearQuantize() as given:
            return {"nbits": 8 if "8" in given.dtype else 4, "quantization_mode": given.mode}
        case Palettize() as given:
            mode = {"kmeans": "kmeans_lut", "uniform": "linear_lut"}[given.mode]
            return {"nbits": given.nbits, "quantization_mode": mode}
    raise AssertionError(f"{step.settings.kind} was refused before")


def _selector(names: frozenset[str]) -> Any:
    from coremltools.models.neural_network.quantization_utils import QuantizedLayerSelector

    class Named(QuantizedLayerSelector):  # type: ignore[misc] # coremltools is untyped
        def do_quantize(self, layer: Message, weight_param: str | None = None) -> bool:
            return layer.name in names and weight_param != "bias"

    return Named()


def _network(spec: Message) -> Message:
    return getattr(spec, spec.WhichOneof("Type"))


def _sizes(message: Message) -> Iterator[int]:
    """How many values each WeightParams in a layer holds."""
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.name == "WeightParams":
            yield len(value.floatValue)
        elif hasattr(value, "ListFields"):
            yield from _sizes(value)
        else:
            for item in value:
                yield from _sizes(item)
