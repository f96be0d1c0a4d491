"""The recipe's inputs as coremltools declares them: images and arrays, of one shape, of several, or of ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput, RangeDimension, TensorInput, captured_shape

if TYPE_CHECKING:
    from types import ModuleType

    from coremltools.converters.mil.input_types import (
        ColorLayout,
        EnumeratedShapes,
        InputType,
        RangeDim,
        Shape,
    )

_COLOR_LAYOUTS = {"RGB": "RGB", "BGR": "BGR", "G": "GRAYSCALE", "G16": "GRAYSCALE_FLOAT16"}


def input_types(ct: ModuleType, spec: BuildSpec) -> list[InputType]:
    """One `ct.ImageType` or `ct.TensorType` for each input, in the order of the recipe."""
    ranges: dict[str, RangeDim] = {}
    return [_input_type(ct, name, given, ranges) for name, given in spec.artifact_inputs.items()]


def color_layout(ct: ModuleType, name: str) -> ColorLayout:
    """The member of `ct.colorlayout` that a recipe calls `name`."""
    return getattr(ct.colorlayout, _COLOR_LAYOUTS[name])


def _input_type(ct: ModuleType, name: str, given: ImageInput | TensorInput, ranges: dict[str, RangeDim]) -> InputType:
    import numpy as np

    shape = _shape(ct, given, ranges)
    if isinstance(given, ImageInput):
        layout = color_layout(ct, given.color_layout)
        return ct.ImageType(name=name, shape=shape, scale=1.0, bias=None, color_layout=layout)
    dtype = getattr(np, given.dtype)
    default = None if given.default_value is None else np.full(captured_shape(given), given.default_value, dtype)
    return ct.TensorType(name=name, shape=shape, dtype=dtype, default_value=default)


def _shape(
    ct: ModuleType, given: ImageInput | TensorInput, ranges: dict[str, RangeDim]
) -> Shape | EnumeratedShapes | tuple[int, ...]:
    """The shape as coremltools takes it; `ranges` keeps those with a name, which share one symbol."""
    if given.enumerated_shapes is not None:
        return ct.EnumeratedShapes(
            shapes=[list(shape) for shape in given.enumerated_shapes], default=list(captured_shape(given))
        )
    if not any(isinstance(size, RangeDimension) for size in given.shape):
        return captured_shape(given)
    sizes = [_range(ct, size, ranges) if isinstance(size, RangeDimension) else size for size in given.shape]
    return ct.Shape(shape=sizes)


def _range(ct: ModuleType, size: RangeDimension, ranges: dict[str, RangeDim]) -> RangeDim:
    made = ranges.get(size.name) if size.name else None
    if made is None:
        made = ct.RangeDim(lower_bound=size.min, upper_bound=size.max, default=size.captured_at)
        if size.name:
            ranges[size.name] = made
    return made
