"""What a Core ML file declares of itself, as plain values: inputs, outputs, labels, operators, metadata."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.artifacts.features import Feature, ImageFeature, OtherFeature, StateFeature, TensorFeature
from builder.artifacts.record import LayerWeights
from builder.backends.coreml.importing import import_coremltools
from builder.backends.description import ArtifactDescription
from builder.errors import SourceError
from coreml_runtime.labels import labels_of, program_operations, suppression_of

if TYPE_CHECKING:
    from google.protobuf.message import Message

_COLOR_LAYOUTS = {10: "G", 20: "RGB", 30: "BGR", 40: "G16"}
"""`FeatureTypes.proto`, ImageFeatureType.ColorSpace."""
_ARRAY_DTYPES = {0x10020: "float32", 0x10010: "float16", 0x10040: "float64", 0x20020: "int32", 0x20008: "int8"}
"""`FeatureTypes.proto`, ArrayFeatureType.ArrayDataType."""


def describe_artifact(path: Path) -> ArtifactDescription:
    """Read the file's own protobuf; nothing is executed. Raises SourceError for what is damaged."""
    ct = import_coremltools()
    try:
        spec = ct.models.utils.load_spec(str(path))
    except Exception as error:  # coremltools' own library raises RuntimeError, protobuf DecodeError, files OSError
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise SourceError(f"the model cannot be read: {reason}", code="B0302") from error
    if spec.WhichOneof("Type") is None:
        raise SourceError("the model cannot be read: it has no content", code="B0302")
    description = spec.description
    functions = {function.name: _interface(function) for function in description.functions}
    first = functions.get(description.defaultFunctionName, _interface(description))
    return ArtifactDescription(
        inputs=first["inputs"],
        outputs=first["outputs"],
        states=first["states"],
        version=int(spec.specificationVersion),
        functions=functions,
        labels=labels_of(spec),
        op_counts=dict(sorted(Counter(_operators(spec)).items())),
        metadata=dict(sorted(description.metadata.userDefined.items())),
        shown={
            "author": description.metadata.author,
            "license": description.metadata.license,
            "version": description.metadata.versionString,
            "description": description.metadata.shortDescription,
        },
        weights=tuple(sorted(_weights(spec), key=lambda w: (-w.bytes, w.name))),
        suppression=suppression_of(spec),
    )


def _interface(description: Message) -> dict[str, tuple[Feature, ...]]:
    """What a model, or one of its functions, takes, gives and keeps."""
    return {
        "inputs": tuple(_feature(f) for f in description.input),
        "outputs": tuple(_feature(f) for f in description.output),
        "states": tuple(_state(s) for s in description.state),
    }


def _feature(feature: Message) -> Feature:
    kind = feature.type.WhichOneof("Type")
    value = getattr(feature.type, kind)
    if kind == "imageType":
        return _image(feature, value)
    if kind == "multiArrayType":
        return _array(feature, value)
    other = OtherFeature(name=feature.name, kind=kind.removesuffix("Type"))
    if kind != "dictionaryType" and feature.type.isOptional:
        other["optional"] = True
    return other


def _image(feature: Message, image: Message) -> ImageFeature:
    """Sizes that may be chosen are ranges of, or enumerated, height and width."""
    layout = _COLOR_LAYOUTS.get(image.colorSpace, str(image.colorSpace))
    described = ImageFeature(
        name=feature.name, kind="image", width=image.width, height=image.height, color_layout=layout
    )
    match image.WhichOneof("SizeFlexibility"):
        case "imageSizeRange":
            ranges = (image.imageSizeRange.heightRange, image.imageSizeRange.widthRange)
            described["size_ranges"] = [[r.lowerBound, r.upperBound] for r in ranges]
        case "enumeratedSizes":
            described["enumerated_sizes"] = [[s.height, s.width] for s in image.enumeratedSizes.sizes]
    if feature.type.isOptional:
        described["optional"] = True
    return described


def _array(feature: Message, array: Message) -> TensorFeature:
    dtype = _ARRAY_DTYPES.get(array.dataType, str(array.dataType))
    described = TensorFeature(name=feature.name, kind="tensor", shape=list(array.shape), dtype=dtype)
    match array.WhichOneof("ShapeFlexibility"):
        case "shapeRange":
            described["ranges"] = [[r.lowerBound, r.upperBound] for r in array.shapeRange.sizeRanges]
        case "enumeratedShapes":
            described["enumerated_shapes"] = [list(s.shape) for s in array.enumeratedShapes.shapes]
    if feature.type.isOptional:
        described["optional"] = True
        if default := array.WhichOneof("defaultOptionalValue"):  # what stands in where the app leaves the input out
            described["default_value"] = getattr(array, default)
    return described


def _state(feature: Message) -> StateFeature:
    array = feature.type.stateType.arrayType
    dtype = _ARRAY_DTYPES.get(array.dataType, str(array.dataType))
    return StateFeature(name=feature.name, kind="state", shape=list(array.shape), dtype=dtype)


def _operators(spec: Message) -> Iterator[str]:
    if spec.WhichOneof("Type") == "pipeline":
        for stage in spec.pipeline.models:
            yield from _operators(stage)
        return
    if spec.WhichOneof("Type") == "nonMaximumSuppression":
        yield "nonMaximumSuppression"
        return
    if spec.WhichOneof("Type") == "mlProgram":
        yield from (o.type for o in program_operations(spec) if o.type != "const")
        return
    network = getattr(spec, spec.WhichOneof("Type"))
    for layer in getattr(network, "layers", ()):
        yield layer.WhichOneof("layer")


def _weights(spec: Message) -> Iterator[LayerWeights]:
    """Every weight that an ML program keeps in its weight file; of a neural network every layer with weights."""
    if spec.WhichOneof("Type") == "pipeline":
        for stage in spec.pipeline.models:
            yield from _weights(stage)
        return
    if spec.WhichOneof("Type") == "mlProgram":
        yield from _program_weights([o for o in program_operations(spec) if o.outputs])  # writes to states have none
        return
    for layer in getattr(getattr(spec, spec.WhichOneof("Type")), "layers", ()):
        if size := sum(_parameter_bytes(layer)):
            kind = layer.WhichOneof("layer")
            yield LayerWeights(name=layer.name, bytes=size, operator=kind, output=layer.name)


def _program_weights(operations: Sequence[Message]) -> Iterator[LayerWeights]:
    users = {
        argument.name: operation
        for operation in reversed(operations)
        for value in operation.inputs.values()
        for argument in value.arguments
        if argument.name
    }
    seen: set[tuple[str, int]] = set()  # functions share weights
    for operation in operations:
        given = (a.value for v in operation.inputs.values() for a in v.arguments if a.HasField("value"))
        stored = {_place(v): v for v in (*operation.attributes.values(), *given) if v.WhichOneof("value") == _STORED}
        size = sum(_stored_bytes(value) for place, value in stored.items() if place not in seen)
        seen.update(stored)
        if not size:
            continue
        user = operation
        while user.type == "const" or user.type.startswith("constexpr_"):
            if user.outputs[0].name not in users:
                break  # the program returns the weight itself
            user = users[user.outputs[0].name]
        name, output = operation.outputs[0].name, user.outputs[0].name
        yield LayerWeights(name=name, bytes=size, operator=user.type, output=output)


_STORED = "blobFileValue"
"""What a value is that stands in the weight file, not in the program itself."""


def _place(value: Message) -> tuple[str, int]:
    return value.blobFileValue.fileName, value.blobFileValue.offset


def _stored_bytes(value: Message) -> int:
    """The bytes that a value takes in the weight file."""
    tensor = value.type.tensorType
    enumeration = tensor.DESCRIPTOR.fields_by_name["dataType"].enum_type
    bits = re.search(r"\d+", enumeration.values_by_number[tensor.dataType].name)
    elements: int = math.prod(dimension.constant.size for dimension in tensor.dimensions)
    return math.ceil(elements * int(bits.group()) / 8) if bits else elements


def _parameter_bytes(message: Message) -> Iterator[int]:
    """The bytes of every `WeightParams` inside a layer of a neural network."""
    if message.DESCRIPTOR.name == "WeightParams":
        yield 4 * len(message.floatValue) + sum(
            len(v) for v in (message.float16Value, message.rawValue, message.int8RawValue)
        )
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if hasattr(value, "__len__") else [value]:
                yield from _parameter_bytes(inner)
