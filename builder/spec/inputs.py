"""What the model takes: named image and tensor inputs and states, with shapes, dtypes and exact normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from builder.spec.base import FeatureName, Part, PositiveInt

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number that is neither infinite nor NaN."""

PerChannel = Finite | Annotated[list[Finite], Field(min_length=1, max_length=3)]
"""One value for all channels, or one for each in the order of the model's channels."""


class RangeDimension(Part):
    """A dimension that the app may choose between `min` and `max`, inclusive."""

    min: PositiveInt
    max: PositiveInt
    default: PositiveInt | None = None
    """The size that the model is captured at; `min` unless given."""
    name: FeatureName | None = None
    """Dimensions of one name have one size: the app chooses it once, for all inputs (`length` of ids and mask)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.captured_at <= self.max:
            raise ValueError(f"must be min <= default <= max, but is {self.min}, {self.captured_at}, {self.max}")
        return self

    @property
    def captured_at(self) -> int:
        """The size of this dimension in the example inputs."""
        return self.default if self.default is not None else self.min


Dimension = PositiveInt | RangeDimension
Shape = Annotated[list[Dimension], Field(max_length=5)]
"""The sizes of a tensor, outermost first; an integer is fixed, `{min, max, default}` is flexible.

`[]` is a scalar (rank 0), which Core ML does not have: the app gives an array of shape [1].
"""

EnumeratedShapes = Annotated[list[list[PositiveInt]], Field(min_length=1, max_length=128)]
"""All shapes that the app may choose from, the one in `shape` among them."""


class ImageInput(Part):
    """A picture, given by the app as a pixel buffer of 8-bit levels.

    The model sees `(x/255 - mean)/std` or `scale*x + bias`, computed exactly in fp32 inside the artifact.
    Exactly one of `from_weights`, `mean` with `std`, or `scale` (with `bias`) says which.
    """

    kind: Literal["image"]
    shape: Annotated[list[Dimension], Field(min_length=4, max_length=4)]
    """(N, C, H, W) with N = 1 and C = 3, or 1 for grayscale; H and W may be flexible."""
    color_layout: Literal["RGB", "BGR", "G", "G16"] = "RGB"
    """The channels as the model was trained on; G16 is grayscale in half precision (iOS 16)."""
    enumerated_shapes: EnumeratedShapes | None = None
    """All shapes (1, C, H, W) that the app may choose from, the one in `shape` among them."""
    from_weights: bool = False
    """Take mean and std from the data configuration published with the weights."""
    mean: PerChannel | None = None
    """Mean in levels of 0 to 1, as in torchvision's Normalize, in the order of the model's channels."""
    std: PerChannel | None = None
    """Standard deviation in levels of 0 to 1, as in torchvision's Normalize, in the order of the model's channels."""
    scale: PerChannel | None = None
    """Factor on levels of 0 to 255; `0.00392156862745098` gives 0 to 1."""
    bias: PerChannel | None = None
    """Added after `scale`; 0 unless given."""
    source_name: str | None = None
    """What the model itself calls this input, where the artifact shall call it otherwise."""


def _of_numbers(value: object) -> Any:
    """Refuse lists that are not an array of numbers."""
    if isinstance(value, list) and _lengths(value) is None:
        raise ValueError("must be numbers in lists of one length at each depth, as an array is")
    return value


def _lengths(value: object) -> tuple[int, ...] | None:
    """The shape of nested lists of finite numbers, None where they have none."""
    if not isinstance(value, list):
        return () if isinstance(value, bool | int | float) and math.isfinite(value) else None
    shapes = {_lengths(entry) for entry in value}
    (shape,) = shapes if len(shapes) == 1 else (None,)
    return None if shape is None else (len(value), *shape)


class TensorInput(Part):
    """A multi-dimensional array."""

    kind: Literal["tensor"]
    shape: Shape
    dtype: Literal["float32", "float16", "int32", "bool"] = "float32"
    """The dtype in which the app gives the array (float16 needs iOS 16). `bool` is int32 with `low: 0`, `high: 2` and
    `booleans: true`: no format takes booleans from an app."""
    booleans: bool = False
    """Whether the model gets true for each integer but 0. Unless asked for, where it takes no integers of 0 and 1."""
    enumerated_shapes: EnumeratedShapes | None = None
    """All shapes that the app may choose from, the one in `shape` among them."""
    default_value: Finite | None = None
    """The value of every element when the app leaves the input out, which it then may."""
    low: Finite | None = None
    """Least value that the app gives: a promise, on which checks rest. Examples are uniform between low and high, and
    normally distributed where neither is given; integers begin with 0 unless it is."""
    high: Finite | None = None
    """Greatest value that the app gives; for int32 exclusive, and required."""
    source_name: str | None = None
    """What the model itself calls this input, where the artifact shall call it otherwise."""

    @model_validator(mode="before")
    @classmethod
    def _as_integers(cls, entries: object) -> object:
        if not isinstance(entries, Mapping) or entries.get("dtype") != "bool":
            return entries
        return {"low": 0, "high": 2, "booleans": True, **entries, "dtype": "int32"}


Constant = Annotated[bool | int | Finite | list[Any], AfterValidator(_of_numbers)]
"""A number, true, false, or lists of such that are of one length at each depth."""


class ConstantInput(Part):
    """An input of the model that the artifact does not have: every prediction computes with this value."""

    kind: Literal["constant"] = "constant"
    constant: Constant
    """The value: a number, or lists of numbers for an array."""
    dtype: Literal["float32", "float16", "int32", "int64", "bool"] | None = None
    """The dtype of the array that a model gets; unless given what the file declares, or a plain number of Python."""
    source_name: str | None = None
    """What the model itself calls this input, where the artifact shall call it otherwise."""


Input = Annotated[ImageInput | TensorInput | ConstantInput, Field(discriminator="kind")]


def _constant_unless_kind(entries: object) -> Any:
    """Let an input be `{constant: 16000}`, without a kind."""
    if not isinstance(entries, Mapping):
        return entries
    return {
        name: {"kind": "constant", **entry} if isinstance(entry, Mapping) and "constant" in entry else entry
        for name, entry in entries.items()
    }


Inputs = Annotated[dict[FeatureName, Input], BeforeValidator(_constant_unless_kind), Field(min_length=1)]
"""By name, all that the model takes, in its order."""


def _buffer_path(value: str) -> str:
    if not all(part.isidentifier() or part.isdigit() for part in value.split(".")):
        raise ValueError("must be the path of a buffer in the model, such as decoder.layers.0.keys")
    return value


class State(Part):
    """What the model keeps from one prediction to the next, such as a KV cache: a buffer that it updates in place.

    The app makes it with `makeState()`, all zeros, and passes it to each prediction. Needs iOS 18.
    """

    buffer: Annotated[str, AfterValidator(_buffer_path)]
    """The path of the buffer in the model, such as `decoder.layers.0.keys`; it begins with zeros."""
    dtype: Literal["float16"] = "float16"
    """The dtype in which it is kept; Core ML knows float16 alone."""


def border_sizes(spec: ImageInput | TensorInput) -> list[int | RangeDimension]:
    """The shape with which the app gives an input; a scalar has [1] there."""
    return list(spec.shape) or [1]


def captured_shape(spec: ImageInput | TensorInput) -> tuple[int, ...]:
    """The shape of the example inputs as the app gives them, with flexible dimensions at their default."""
    return tuple(d.captured_at if isinstance(d, RangeDimension) else d for d in border_sizes(spec))


def model_shape(spec: ImageInput | TensorInput) -> tuple[int, ...]:
    """The shape of the example inputs as the model takes them: `captured_shape`, but `()` for a scalar."""
    return captured_shape(spec) if spec.shape else ()


def is_flexible(spec: ImageInput | TensorInput) -> bool:
    """Whether the app may choose among several shapes."""
    return spec.enumerated_shapes is not None or any(isinstance(d, RangeDimension) for d in spec.shape)


MOST_ELEMENTS = 2**22
MOST_TIMES, FEW_ELEMENTS = 64, 2**18
"""Where an input would be larger at its largest size, or so many times larger than the captured one and not small, some
times the captured size is tried: a check is not a benchmark."""


def shapes_to_try(inputs: Mapping[str, ImageInput | TensorInput]) -> tuple[dict[str, tuple[int, ...]], ...]:
    """By input name, the captured shapes, then others that the app may choose, for all inputs together.

    Those are all enumerated shapes (of several inputs the first with the first, and so on), and the largest and the
    smallest sizes of ranges.
    """
    captured = {name: captured_shape(given) for name, given in inputs.items()}
    enumerated = max((len(given.enumerated_shapes or ()) for given in inputs.values()), default=0)
    ranged = any(isinstance(d, RangeDimension) for given in inputs.values() for d in given.shape)
    choices = [captured]
    for index in range(max(enumerated, 2 if ranged else 0)):
        sizes = _largest(inputs) if index % 2 == 0 else _smallest
        choices.append({name: _choice(given, index, sizes) for name, given in inputs.items()})
    unique: list[dict[str, tuple[int, ...]]] = []
    for choice in choices:
        if choice not in unique:
            unique.append(choice)
    return tuple(unique)


Size = Callable[[RangeDimension], int]


def _choice(given: ImageInput | TensorInput, index: int, size: Size) -> tuple[int, ...]:
    if given.enumerated_shapes is not None:
        return tuple(given.enumerated_shapes[index % len(given.enumerated_shapes)])
    return tuple(size(d) if isinstance(d, RangeDimension) else d for d in border_sizes(given))


def _smallest(dimension: RangeDimension) -> int:
    return dimension.min


def _largest(inputs: Mapping[str, ImageInput | TensorInput]) -> Size:
    """The largest size of a dimension, or some times the captured one where that makes any input too large to try."""
    largest = [
        math.prod(d.max if isinstance(d, RangeDimension) else d for d in given.shape) for given in inputs.values()
    ]
    if max(largest) > MOST_ELEMENTS:
        return lambda dimension: min(dimension.max, 2 * dimension.captured_at)
    captured = [math.prod(captured_shape(given)) for given in inputs.values()]
    if any(large > FEW_ELEMENTS and large > MOST_TIMES * size for large, size in zip(largest, captured, strict=True)):
        return lambda dimension: min(dimension.max, 8 * dimension.captured_at)
    return lambda dimension: dimension.max
