"""What the model takes: named image and tensor inputs, with shapes, dtypes and exact normalisation."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from builder.spec.base import Part, PositiveInt

PerChannel = float | Annotated[list[float], Field(min_length=1, max_length=3)]
"""One value for all channels, or one for each in the order of the model's channels."""


class RangeDimension(Part):
    """A dimension that the app may choose between `min` and `max`, inclusive."""

    min: PositiveInt
    max: PositiveInt
    default: PositiveInt | None = None
    """The size that the model is captured at; `min` unless given."""

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
Shape = Annotated[list[Dimension], Field(min_length=1, max_length=5)]
"""The sizes of a tensor, outermost first; an integer is fixed, `{min, max, default}` is flexible."""


class ImageInput(Part):
    """A picture, given by the app as a pixel buffer of 8-bit levels.

    The model sees `(x/255 - mean)/std` or `scale*x + bias`, computed exactly in fp32 inside the artifact.
    Exactly one of `from_weights`, `mean` with `std`, or `scale` (with `bias`) says which.
    """

    kind: Literal["image"]
    shape: Annotated[list[Dimension], Field(min_length=4, max_length=4)]
    """(N, C, H, W) with N = 1 and C = 3, or 1 for grayscale."""
    color_layout: Literal["RGB", "BGR", "G", "G16"] = "RGB"
    """The channels as the model was trained on; G16 is grayscale in half precision (iOS 16)."""
    from_weights: bool = False
    """Take mean and std from the data configuration published with the weights."""
    mean: PerChannel | None = None
    """Mean in levels of 0 to 1, as in torchvision's Normalize."""
    std: PerChannel | None = None
    """Standard deviation in levels of 0 to 1, as in torchvision's Normalize."""
    scale: PerChannel | None = None
    """Factor on levels of 0 to 255; `0.00392156862745098` gives 0 to 1."""
    bias: PerChannel | None = None
    """Added after `scale`; 0 unless given."""


class TensorInput(Part):
    """A multi-dimensional array."""

    kind: Literal["tensor"]
    shape: Shape
    dtype: Literal["float32", "float16", "int32"] = "float32"
    """The dtype in which the app gives the array (float16 needs iOS 16)."""
    enumerated_shapes: Annotated[list[list[PositiveInt]], Field(min_length=1, max_length=128)] | None = None
    """All shapes that the app may choose from, the one in `shape` among them."""
    low: float | None = None
    """Least value of the seeded examples (uniform between low and high); normal distribution unless given."""
    high: float | None = None
    """Greatest value of the seeded examples; for int32 exclusive, and required."""


Input = Annotated[ImageInput | TensorInput, Field(discriminator="kind")]


def captured_shape(spec: ImageInput | TensorInput) -> tuple[int, ...]:
    """The shape of the example inputs, with flexible dimensions at their default."""
    return tuple(d.captured_at if isinstance(d, RangeDimension) else d for d in spec.shape)


def is_flexible(spec: ImageInput | TensorInput) -> bool:
    """Whether the app may choose among several shapes."""
    enumerated = isinstance(spec, TensorInput) and spec.enumerated_shapes is not None
    return enumerated or any(isinstance(d, RangeDimension) for d in spec.shape)
