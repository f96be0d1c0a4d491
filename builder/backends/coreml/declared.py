"""What a Core ML file must declare of inputs and outputs, by the recipe."""

from __future__ import annotations

from typing import Any

from builder.backends.declared import has_ranges, ranges, stored_default, wanted_shape
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput, TensorInput, captured_shape
from builder.spec.outputs import ImageOutput


def wanted_input(given: ImageInput | TensorInput) -> dict[str, Any]:
    """An image with its size and layout, or an array with its default value."""
    if isinstance(given, ImageInput):
        return _wanted_image(given)
    return {
        "kind": "tensor",
        "dtype": given.dtype,
        **wanted_shape(given),
        "optional": None if given.default_value is None else True,
        "default_value": stored_default(given),
    }


def _wanted_image(given: ImageInput) -> dict[str, object]:
    shape = captured_shape(given)
    return {
        "kind": "image",
        "height": shape[2],
        "width": shape[3],
        "color_layout": given.color_layout,
        "size_ranges": ranges(given)[2:] if has_ranges(given) else None,
        "enumerated_sizes": sorted(shape[2:] for shape in given.enumerated_shapes) if given.enumerated_shapes else None,
    }


def wanted_output(index: int, name: str, spec: BuildSpec) -> dict[str, Any]:
    """A classifier's dictionary of probabilities, an image, or an array."""
    given = spec.output.get(name)
    if index == 0 and spec.classifier is not None:
        return {"kind": "dictionary"}
    if isinstance(given, ImageOutput):
        return {"kind": "image", "color_layout": given.color_layout}
    return {"kind": "tensor"} | ({} if given is None or given.dtype is None else {"dtype": given.dtype})
