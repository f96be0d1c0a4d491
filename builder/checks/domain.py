"""The inputs that an app may give, as values to be drawn and changed: what the search for counter-examples moves in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from PIL import Image

from builder.artifacts.stages import Sample
from builder.data.drawing import Given, as_sample
from builder.data.drawn_pictures import PICTURES, Drawing
from builder.data.fitting import in_layout
from builder.data.masks import prefix_of_ones
from builder.data.noise import draw_array, draw_noise_picture
from builder.data.photographs import draw_photograph
from builder.data.stress import bounds, stress_kinds
from builder.spec.coverage import is_mask
from builder.spec.inputs import ImageInput, TensorInput

Inputs = Mapping[str, ImageInput | TensorInput]
Shapes = Mapping[str, tuple[int, ...]]
Point = Mapping[str, Given]
"""One value for each input, as the app gives it."""

PHOTOGRAPHS: tuple[Drawing, ...] = (partial(draw_photograph, 0), partial(draw_photograph, 1))


@dataclass(frozen=True, kw_only=True)
class Domain:
    """Everything that the recipe says of its inputs."""

    inputs: Inputs

    def draw(self, shapes: Shapes, generator: np.random.Generator) -> dict[str, Given]:
        """A new point: each input is noise of some level, or one of the stress inputs."""
        return {name: _drawn(name, given, shapes[name], generator) for name, given in self.inputs.items()}

    def change(self, point: Point, generator: np.random.Generator) -> dict[str, Given]:
        """A point next to another: one input is changed in some way."""
        name = list(self.inputs)[int(generator.integers(len(self.inputs)))]
        return {**point, name: _changed(name, self.inputs[name], point[name], generator)}

    def sample(self, point: Point) -> Sample:
        """The point as artifact and original take it."""
        return as_sample(point, self.inputs)

    def plain(self, point: Point) -> dict[str, Given]:
        """The point in the order of the inputs."""
        return {name: point[name] for name in self.inputs}

    def inside(self, name: str, values: np.ndarray) -> np.ndarray:
        """Values moved into the range of an array."""
        given = self.inputs[name]
        assert isinstance(given, TensorInput), "pictures have their range by their dtype"
        return np.clip(values, *bounds(given)).astype(given.dtype)


def _drawn(name: str, given: ImageInput | TensorInput, shape: tuple[int, ...], generator: np.random.Generator) -> Given:
    if isinstance(given, ImageInput):
        size = (shape[3], shape[2])
        draws: list[Drawing] = [draw_noise_picture, *PICTURES.values(), *PHOTOGRAPHS]
        return in_layout(draws[int(generator.integers(len(draws)))](size, generator), given.color_layout)
    if is_mask(name, given):
        return prefix_of_ones(given, shape, float(generator.random()))
    kinds = list(stress_kinds(name, given).values())
    if generator.random() < 0.5:
        return kinds[int(generator.integers(len(kinds)))](given, shape, generator)
    if given.dtype == "int32":
        return draw_array(given, shape, generator)
    low, high = bounds(given)
    middle, reach = generator.uniform(low, high), (high - low) / 2 * 10 ** generator.uniform(-3, 0)
    return np.clip(middle + reach * generator.standard_normal(shape), low, high).astype(given.dtype)


def _changed(name: str, given: ImageInput | TensorInput, value: Given, generator: np.random.Generator) -> Given:
    if isinstance(value, Image.Image):
        levels = np.asarray(value, dtype=np.float64)
        moved = np.clip(np.round(_moved(levels, 0, 255, generator)), 0, 255)
        return Image.fromarray(moved.astype(np.float32 if value.mode == "F" else np.uint8), value.mode)
    assert isinstance(given, TensorInput), "only image inputs are given pictures"
    if is_mask(name, given):
        return prefix_of_ones(given, value.shape, float(generator.random()))
    low, high = bounds(given)
    moved = np.clip(_moved(value.astype(np.float64), low, high, generator), low, high)
    return (np.round(moved) if given.dtype == "int32" else moved).astype(given.dtype)


def _moved(values: np.ndarray, low: float, high: float, generator: np.random.Generator) -> np.ndarray:
    """Values with some of them changed: all of them, a stretch of the last axis, or a few."""
    where = _where(values.shape, generator)
    reach, middle = (high - low) / 2, float(np.median(values))
    match int(generator.integers(6)):
        case 0:
            new = middle + (values - middle) * np.exp(generator.normal(0, 0.7))
        case 1:
            new = values + reach * 10 ** generator.uniform(-3, 0) * generator.standard_normal(values.shape)
        case 2:
            new = np.full(values.shape, generator.choice([low, high, middle]))
        case 3:
            new = np.roll(values, int(generator.integers(1, max(2, values.shape[-1]))), axis=-1)
        case 4:
            new = low + high - values
        case _:
            new = generator.uniform(low, high, size=values.shape)
    return np.where(where, new, values)


def _where(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    match int(generator.integers(3)):
        case 0:
            return np.ones(shape, dtype=bool)
        case 1:
            stretch = np.zeros(shape[-1], dtype=bool)
            start = int(generator.integers(shape[-1]))
            stretch[start : start + int(generator.integers(1, shape[-1] + 1))] = True
            return np.broadcast_to(stretch, shape)
    return generator.random(shape) < 10 ** generator.uniform(-3, 0)
