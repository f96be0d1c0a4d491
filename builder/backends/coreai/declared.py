"""What a Core AI artifact declares of inputs and outputs, by the recipe: arrays of numbers, pictures too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.backends.declared import wanted_shape
from builder.spec import BuildSpec
from builder.spec.inputs import ImageInput, TensorInput, is_flexible
from builder.spec.outputs import ImageOutput


def declared_types(given: ImageInput | TensorInput) -> str:
    """The type in which the app gives an input: levels of 0 to 255 are bytes, those of G16 float16."""
    if isinstance(given, ImageInput):
        return "float16" if given.color_layout == "G16" else "uint8"
    return given.dtype


def declared_output(name: str, spec: BuildSpec, *, is_integer: bool) -> str:
    """The type of an output, as the Core ML artifact of the recipe has it; of a picture as for inputs."""
    given = spec.output.get(name)
    if isinstance(given, ImageOutput):
        return "float16" if given.color_layout == "G16" else "uint8"
    if given is not None and given.dtype is not None:
        return given.dtype
    return "int32" if is_integer else "float32"


def features(spec: BuildSpec) -> dict[str, dict[str, Any]]:
    """`known_features` of a recipe's inputs."""
    return known_features(spec.artifact_inputs)


def known_features(inputs: Mapping[str, ImageInput | TensorInput]) -> dict[str, dict[str, object]]:
    """By input, what its type in the program does not say: a picture's layout, the shapes that an app may choose."""
    found: dict[str, dict[str, object]] = {}
    for name, given in inputs.items():
        known: dict[str, object] = {}
        if isinstance(given, ImageInput):
            known["color_layout"] = given.color_layout
        if is_flexible(given):
            known |= {key: value for key, value in wanted_shape(given).items() if value is not None}
        if known:
            found[name] = known
    return found


def wanted_input(given: ImageInput | TensorInput) -> dict[str, Any]:
    """An array (N, C, H, W) of levels with the layout of its channels, or an array."""
    layout = {"color_layout": given.color_layout} if isinstance(given, ImageInput) else {}
    return {"kind": "tensor", "dtype": declared_types(given), **layout, **wanted_shape(given)}


def wanted_output(index: int, name: str, spec: BuildSpec) -> dict[str, Any]:  # noqa: ARG001 - as all backends
    """An array, a classifier's probabilities too: labels are in the metadata."""
    given = spec.output.get(name)
    if given is None or (not isinstance(given, ImageOutput) and given.dtype is None):
        return {"kind": "tensor"}
    return {"kind": "tensor", "dtype": declared_output(name, spec, is_integer=False)}
