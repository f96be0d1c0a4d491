"""A neural network as the runtime sees it: inputs mapped, images preprocessed, outputs and classes given back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from coreml_runtime.errors import InputError, ModelError
from coreml_runtime.features import ArrayFeature, DictionaryFeature, ImageFeature, Interface, read_interface
from coreml_runtime.mapping import Buffer, release
from coreml_runtime.nn.layer import Source
from coreml_runtime.nn.program import Steps, Values, bind_network, run_steps
from coreml_runtime.ops.table import Value

if TYPE_CHECKING:
    from google.protobuf.message import Message


Preprocess = Callable[[Tensor], Tensor]

_DTYPES = {"int32": torch.int32, "int8": torch.int8, "fp64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class Classes:
    """What a classifier adds: the value that holds the scores, and the labels in their order."""

    scores: str
    labels: tuple[str, ...] | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class NeuralNetwork:
    """Bound layers and the rules at their border; `legacy` arrays and images are rank 5, [Seq, Batch, C, H, W]."""

    interface: Interface
    steps: Steps
    preprocess: dict[str, tuple[Preprocess, ...]]
    legacy_arrays: bool
    legacy_images: bool
    classes: Classes | None

    def run(
        self, inputs: dict[str, object], *, states: dict[str, Tensor], record: dict[str, object] | None
    ) -> dict[str, Value]:
        """Outputs by name; a neural network has no states."""
        del states
        values = self.values(inputs)
        if record is not None:
            record.update(values)
        run_steps(self.steps, values, record)
        outputs = {name: self.output(name, values[name]) for name in self.interface.outputs if name in values}
        return outputs | self._classify(values)

    def allows(self, feature: ArrayFeature, shape: tuple[int, ...]) -> bool:
        """With the old rank 5 mapping, sequence and batch may be given in front of what is declared."""
        if feature.allows(shape) or not self.legacy_arrays:
            return feature.allows(shape)
        if len(shape) == 5 and len(feature.shape) == 1:
            return feature.allows(shape[2:3]) and shape[3:] == (1, 1)
        lead = len(shape) - len(feature.shape or shape)
        return 0 < lead <= 2 and feature.allows(shape[lead:])

    def values(self, inputs: dict[str, Value]) -> Values:
        """What the first layers read, by name: inputs as the network has them inside."""
        values: Values = {}
        for name, feature in self.interface.inputs.items():
            if isinstance(feature, ImageFeature):
                if name not in inputs:
                    raise InputError(f"input {name!r} is missing: images have no default")
                value = inputs[name]
                for function in self.preprocess.get(name, ()):
                    value = function(value)
                values[name] = value.unsqueeze(0) if self.legacy_images else value
            elif name in inputs:
                value = torch.as_tensor(inputs[name]).to(torch.float32)
                values[name] = self._array(feature, value)
            elif isinstance(feature, ArrayFeature):
                values[name] = self._array(feature, torch.zeros(feature.shape))
        return values

    def _array(self, feature: object, value: Tensor) -> Tensor:
        if not self.legacy_arrays:
            return value if value.dim() else value.reshape(1)
        return as_rank_5(value, len(getattr(feature, "shape", ())))

    def output(self, name: str, value: Tensor) -> Tensor:
        """A value of the network as it declares the output of that name."""
        feature = self.interface.outputs[name]
        if not isinstance(feature, ArrayFeature):
            return value
        value = value.to(_DTYPES.get(feature.dtype, torch.float32))
        if self.legacy_arrays and value.dim() == 5:
            return from_rank_5(value, feature.shape)
        # A network that was changed to take an image has rank 4 inside and still declares its old outputs.
        fits = feature.shape and value.dim() > len(feature.shape) and math.prod(feature.shape) == value.numel()
        return value.reshape(feature.shape) if fits else value

    def _classify(self, values: Values) -> dict[str, object]:
        if self.classes is None:
            return {}
        scores = values[self.classes.scores].reshape(-1)
        if scores.numel() != len(self.classes.labels):
            raise ModelError(f"{scores.numel()} class scores for {len(self.classes.labels)} labels")
        found: dict[str, object] = {}
        if self.interface.predicted_feature:
            found[self.interface.predicted_feature] = self.classes.labels[int(scores.argmax())]
        if self.interface.predicted_probabilities:
            pairs = zip(self.classes.labels, scores.tolist(), strict=True)
            found[self.interface.predicted_probabilities] = dict(pairs)
        return found


def as_rank_5(value: Tensor, declared: int) -> Tensor:
    """[Seq, Batch, C, H, W] of an array (NeuralNetworkMultiArrayShapeMapping, RANK5_ARRAY_MAPPING).

    Rank 1 is C and rank 3 is C, H, W; a rank above the `declared` one has the batch, or sequence and batch, in front.
    """
    if value.dim() >= 5:
        return value
    if declared == 1 and value.dim() in (2, 3):
        lead = value.shape[:-1] if value.dim() == 3 else (1, *value.shape[:-1])
        return value.reshape(*lead, value.shape[-1], 1, 1)
    if value.dim() <= 1:
        return value.reshape(1, 1, -1, 1, 1)
    return value.reshape(*[1] * (5 - value.dim()), *value.shape)


def from_rank_5(value: Tensor, declared: tuple[int, ...]) -> Tensor:
    """The declared shape where the elements fit it; otherwise without a sequence and batch of 1."""
    if declared and math.prod(declared) == value.numel():
        return value.reshape(declared)
    return value.reshape(value.shape[2:]) if value.shape[:2] == (1, 1) else value


def compile_network(specification: Message, content: Buffer = b"") -> NeuralNetwork:
    """The network of a Model message, weights read and layers bound; UnsupportedError names all missing layers.

    `content` is the file that holds the weights which were cut out of the message.
    """
    network = read_network(specification, content)
    release(content)
    return network


def read_network(specification: Message, content: Buffer = b"") -> NeuralNetwork:
    """From a Model message of any of the three neural network kinds."""
    border = read_border(specification)
    hidden: tuple[str, ...] = ()
    if border.classes is not None:
        hidden = (border.interface.predicted_feature, border.interface.predicted_probabilities)
    outputs = [name for name in border.interface.outputs if name not in hidden]
    if border.classes is not None and border.classes.scores not in outputs:
        outputs.append(border.classes.scores)
    layers = getattr(specification, specification.WhichOneof("Type")).layers
    steps = bind_network(layers, Source(content=content), inputs=border.interface.inputs, outputs=outputs)
    return replace(border, steps=steps)


def read_border(specification: Message) -> NeuralNetwork:
    """The same without its layers: what happens to inputs and outputs."""
    kind = specification.WhichOneof("Type")
    message = getattr(specification, kind)
    interface = read_interface(specification.description)
    return NeuralNetwork(
        interface=interface,
        steps=Steps(steps=()),
        preprocess=_preprocessing(message, interface),
        legacy_arrays=message.arrayInputShapeMapping == 0,
        legacy_images=message.imageInputShapeMapping == 0,
        classes=_classes(message, interface) if kind == "neuralNetworkClassifier" else None,
    )


def _classes(message: Message, interface: Interface) -> Classes:
    """Without a name for the scores they are what the last layer writes."""
    kind = message.WhichOneof("ClassLabels")
    if kind is None:
        raise ModelError("a neural network classifier lists no classes")
    labels = tuple(getattr(message, kind).vector)
    if not message.layers or not message.layers[-1].output:
        raise ModelError("a neural network classifier whose last layer writes nothing")
    scores = message.labelProbabilityLayerName
    declared = isinstance(interface.outputs.get(scores), DictionaryFeature)
    if not scores or (declared and not _written(message, scores)):
        scores = message.layers[-1].output[0]
    return Classes(scores=scores, labels=labels)


def _written(message: Message, name: str) -> bool:
    return any(name in layer.output for layer in message.layers)


def _preprocessing(message: Message, interface: Interface) -> dict[str, tuple[Preprocess, ...]]:
    """What happens to each image input, in the file's order; without a name it is the first image input."""
    images = [feature for feature in interface.inputs.values() if isinstance(feature, ImageFeature)]
    found: dict[str, tuple[Preprocess, ...]] = {}
    for entry in message.preprocessing:
        chosen = [feature for feature in images if entry.featureName in ("", feature.name)]
        if not chosen:
            raise ModelError(f"preprocessing of {entry.featureName!r}, which is not an image input")
        found[chosen[0].name] = (*found.get(chosen[0].name, ()), _preprocessor(entry, chosen[0]))
    return found


def _preprocessor(entry: Message, feature: ImageFeature) -> Preprocess:
    """Either y = scale * x + bias[channel], or y = x - mean image (NeuralNetworkPreprocessing)."""
    if entry.WhichOneof("preprocessor") == "meanImage":
        mean = torch.tensor(entry.meanImage.meanImage, dtype=torch.float32)
        channels = 1 if feature.color.startswith("GRAYSCALE") else 3
        if mean.numel() != channels * feature.height * feature.width:
            raise ModelError(f"the mean image of {feature.name!r} has {mean.numel()} values, not those of its input")
        mean = mean.reshape(1, channels, feature.height, feature.width)
        return lambda x: x - mean
    s = entry.scaler
    order = {"RGB": (s.redBias, s.greenBias, s.blueBias), "BGR": (s.blueBias, s.greenBias, s.redBias)}
    bias = torch.tensor(order.get(feature.color, (s.grayBias,)), dtype=torch.float32).reshape(1, -1, 1, 1)
    scale = s.channelScale
    return lambda x: torch.add(bias, x, alpha=scale)
