"""What a model declares about its inputs and outputs, as frozen types read from the specification."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from coreml_runtime.errors import ModelError, UnsupportedError

if TYPE_CHECKING:
    from google.protobuf.message import Message

Shape = tuple[int, ...]
Range = tuple[int, int | None]
"""Smallest and largest size of a dimension; None has no upper end."""

Color = Literal["RGB", "BGR", "GRAYSCALE", "GRAYSCALE_FLOAT16"]
Scalar = Literal["int64", "double", "string"]

_COLORS: dict[int, Color] = {10: "GRAYSCALE", 20: "RGB", 30: "BGR", 40: "GRAYSCALE_FLOAT16"}
_ARRAY_TYPES = {65568: "fp32", 65600: "fp64", 131104: "int32", 131080: "int8", 65552: "fp16"}


@dataclass(frozen=True, kw_only=True, repr=False)
class ArrayFeature:
    """A multi-array. With `enumerated` the shape is one of those; with `ranges` each size lies in its range.

    An empty `shape` means any in a Core ML model; a `scalar` of a Core AI model has no axes.
    """

    name: str
    dtype: str
    shape: Shape
    enumerated: tuple[Shape, ...] = ()
    ranges: tuple[Range, ...] = ()
    optional: bool = False
    default: float | None = None
    scalar: bool = False

    def allows(self, shape: Shape) -> bool:
        """Whether a value of this shape may be passed."""
        if self.scalar:
            return shape in ((), (1,))
        if self.enumerated:
            return shape in self.enumerated
        if self.ranges:
            return len(shape) == len(self.ranges) and all(map(_in_range, shape, self.ranges))
        return not self.shape or shape == self.shape

    def expected(self) -> str:
        """The allowed shapes, for messages."""
        if self.enumerated:
            return "one of " + ", ".join(map(str, self.enumerated))
        if self.ranges:
            return "(" + ", ".join(map(_range_text, self.ranges)) + ")"
        return str(self.shape) if self.shape or self.scalar else "any shape"

    def __repr__(self) -> str:
        return _readable(f"{self.dtype} array {self.expected()}", self.optional, self.default)


@dataclass(frozen=True, kw_only=True, repr=False)
class ImageFeature:
    """An image of one size, of one of `enumerated` (width, height), or within the two ranges."""

    name: str
    color: Color
    width: int
    height: int
    enumerated: tuple[tuple[int, int], ...] = ()
    width_range: Range | None = None
    height_range: Range | None = None
    optional: bool = False

    def allows(self, width: int, height: int) -> bool:
        """Whether an image of this size may be passed."""
        if self.enumerated:
            return (width, height) in self.enumerated
        if self.width_range and self.height_range:
            return _in_range(width, self.width_range) and _in_range(height, self.height_range)
        return (width, height) == (self.width, self.height)

    def expected(self) -> str:
        """The allowed sizes, width before height, for messages."""
        if self.enumerated:
            return "one of " + ", ".join(f"{width} x {height}" for width, height in self.enumerated)
        if self.width_range and self.height_range:
            return f"{_range_text(self.width_range)} x {_range_text(self.height_range)}"
        return f"{self.width} x {self.height}"

    def __repr__(self) -> str:
        return _readable(f"{self.color} image {self.expected()} (width x height)", self.optional)


@dataclass(frozen=True, kw_only=True, repr=False)
class ScalarFeature:
    """A number or a text."""

    name: str
    kind: Scalar
    optional: bool = False

    def __repr__(self) -> str:
        return _readable(self.kind, self.optional)


@dataclass(frozen=True, kw_only=True, repr=False)
class DictionaryFeature:
    """A dictionary from labels to numbers: class probabilities."""

    name: str
    key: Scalar
    optional: bool = False

    def __repr__(self) -> str:
        return _readable(f"dictionary from {self.key} to double", self.optional)


@dataclass(frozen=True, kw_only=True, repr=False)
class SequenceFeature:
    """A list of numbers or texts."""

    name: str
    kind: Scalar
    optional: bool = False

    def __repr__(self) -> str:
        return _readable(f"list of {self.kind}", self.optional)


def _readable(text: str, optional: bool, default: float | None = None) -> str:
    """What `print(model.inputs)` shows for a feature."""
    return f"<{text}{', optional' if optional else ''}{'' if default is None else f', default {default:g}'}>"


Feature = ArrayFeature | ImageFeature | ScalarFeature | DictionaryFeature | SequenceFeature


@dataclass(frozen=True, kw_only=True)
class Interface:
    """The declared interface of a model or of one of its functions, in the file's order."""

    inputs: dict[str, Feature]
    outputs: dict[str, Feature]
    states: dict[str, ArrayFeature]
    predicted_feature: str
    predicted_probabilities: str


def read_interface(description: Message) -> Interface:
    """From a ModelDescription or FunctionDescription message."""
    states = {}
    for entry in description.state:
        states[entry.name] = _array(entry.name, entry.type.stateType.arrayType, optional=False)
    return Interface(
        inputs=_features(description.input),
        outputs=_features(description.output),
        states=states,
        predicted_feature=description.predictedFeatureName,
        predicted_probabilities=description.predictedProbabilitiesName,
    )


def _features(entries: Iterable[Message]) -> dict[str, Feature]:
    """By name; a model that returns one value twice declares it twice, the same both times."""
    found: dict[str, Feature] = {}
    for entry in entries:
        feature = _feature(entry.name, entry.type)
        if found.setdefault(entry.name, feature) != feature:
            raise ModelError(f"the feature {entry.name!r} is declared twice, and differently")
    return found


def _feature(name: str, message: Message) -> Feature:
    kind = message.WhichOneof("Type")
    optional = bool(message.isOptional)
    if kind == "multiArrayType":
        return _array(name, message.multiArrayType, optional=optional)
    if kind == "imageType":
        return _image(name, message.imageType, optional=optional)
    if kind in ("int64Type", "doubleType", "stringType"):
        return ScalarFeature(name=name, kind=_scalar(kind), optional=optional)
    if kind == "dictionaryType":
        key = message.dictionaryType.WhichOneof("KeyType")
        return DictionaryFeature(name=name, key="int64" if key == "int64KeyType" else "string", optional=optional)
    if kind == "sequenceType":
        inner = message.sequenceType.WhichOneof("Type")
        return SequenceFeature(name=name, kind="int64" if inner == "int64Type" else "string", optional=optional)
    raise UnsupportedError(f"feature {name!r}: the type {kind} of the model's description")


def _scalar(kind: str) -> Scalar:
    return "int64" if kind == "int64Type" else "double" if kind == "doubleType" else "string"


def _array(name: str, message: Message, *, optional: bool) -> ArrayFeature:
    if message.dataType not in _ARRAY_TYPES:
        raise ModelError(f"feature {name!r}: multi-array of the unknown data type {message.dataType}")
    flexibility = message.WhichOneof("ShapeFlexibility")
    enumerated: tuple[Shape, ...] = ()
    ranges: tuple[Range, ...] = ()
    if flexibility == "enumeratedShapes":
        enumerated = tuple(tuple(entry.shape) for entry in message.enumeratedShapes.shapes)
    elif flexibility == "shapeRange":
        ranges = tuple(_range(entry) for entry in message.shapeRange.sizeRanges)
    default = message.WhichOneof("defaultOptionalValue")
    return ArrayFeature(
        name=name,
        dtype=_ARRAY_TYPES[message.dataType],
        shape=tuple(message.shape),
        enumerated=enumerated,
        ranges=ranges,
        optional=optional,
        default=None if default is None else float(getattr(message, default)),
    )


def _image(name: str, message: Message, *, optional: bool) -> ImageFeature:
    if message.colorSpace not in _COLORS:
        raise ModelError(f"feature {name!r}: image of the unknown colour space {message.colorSpace}")
    flexibility = message.WhichOneof("SizeFlexibility")
    enumerated: tuple[tuple[int, int], ...] = ()
    width_range = height_range = None
    if flexibility == "enumeratedSizes":
        enumerated = tuple((int(entry.width), int(entry.height)) for entry in message.enumeratedSizes.sizes)
    elif flexibility == "imageSizeRange":
        width_range = _range(message.imageSizeRange.widthRange)
        height_range = _range(message.imageSizeRange.heightRange)
    return ImageFeature(
        name=name,
        color=_COLORS[message.colorSpace],
        width=int(message.width),
        height=int(message.height),
        enumerated=enumerated,
        width_range=width_range,
        height_range=height_range,
        optional=optional,
    )


def _range(message: Message) -> Range:
    return int(message.lowerBound), None if message.upperBound < 0 else int(message.upperBound)


def _in_range(size: int, allowed: Range) -> bool:
    low, high = allowed
    return low <= size and (high is None or size <= high)


def _range_text(allowed: Range) -> str:
    low, high = allowed
    return f"{low} or more" if high is None else str(low) if low == high else f"{low} to {high}"
