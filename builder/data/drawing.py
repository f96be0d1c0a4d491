"""Samples that are drawn, or enlarged from a digit: of any shape, each as the app would give it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from builder.artifacts.stages import Sample
from builder.data.drawn_pictures import text_line, text_page
from builder.data.fitting import in_layout
from builder.data.masks import prefix_of_ones
from builder.data.noise import draw_array, draw_noise_picture
from builder.data.photographs import draw_photograph
from builder.data.sounds import draw_sound
from builder.data.streams import stream
from builder.data.tables import draw_table
from builder.data.text_ids import draw_text_ids
from builder.spec.coverage import covers, is_mask
from builder.spec.data import (
    Data,
    NoiseData,
    SoundsData,
    TablesData,
    TextBoxesData,
    TextIdsData,
)
from builder.spec.inputs import ImageInput, TensorInput, captured_shape

Inputs = Mapping[str, ImageInput | TensorInput]
Given = Image.Image | np.ndarray
"""A value as the app gives it."""

LINE = 3
"""A picture that is at least this many times as wide as it is high holds a line of text, not a page."""
LEAST_TEXT = 0.15
"""The shortest text, as a share of the length that the input has."""


def draw_sample(
    data: Data,
    inputs: Inputs,
    seed: int,
    index: int,
    shapes: Mapping[str, tuple[int, ...]],
    *,
    left_out: bool = False,
    masks: bool = True,
    digit: tuple[Image.Image, str] | None = None,
    fixed: Mapping[str, Given] | None = None,
) -> Sample:
    """Return sample number `index` of data that comes along, of these shapes.

    `left_out` leaves out inputs that have a default value, `masks` draws masks as apps give them, and `fixed` has the
    values of inputs that are not drawn. Texts, and the masks beside them, have one length in all inputs.
    """
    share = 1.0 if index == 0 else float(stream(seed, index, "share of the length").uniform(LEAST_TEXT, 1))
    without = optional(inputs, shapes) if left_out else ()
    given: dict[str, Given] = dict(fixed or {})
    for name, spec in inputs.items():
        generator = stream(seed, index, name)
        if name in given or name in without:
            continue
        if isinstance(spec, ImageInput):
            picture = _picture(data, shapes[name], index, digit, generator)
            given[name] = in_layout(picture, spec.color_layout)
        elif masks and is_mask(name, spec):
            given[name] = prefix_of_ones(spec, shapes[name], share)
        elif covers(data, name, spec):
            given[name] = _array(data, spec, shapes[name], seed, index, share, generator)
        else:
            given[name] = draw_array(spec, shapes[name], generator)
    known = as_sample(given, inputs, digit[1] if digit else None)
    tensors = {name: known.tensors[name] if name in given else _default(inputs[name], shapes[name]) for name in inputs}
    return Sample(given={name: given[name] for name in inputs if name in given}, tensors=tensors, label=known.label)


def _array(
    data: Data,
    spec: TensorInput,
    shape: tuple[int, ...],
    seed: int,
    index: int,
    share: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """The array of an input that `covers` says this data has values for."""
    match data:
        case SoundsData():
            return draw_sound(spec, shape, index, data.rate, generator)
        case TextIdsData():
            return draw_text_ids(spec, shape, share, data, generator)
        case TextBoxesData():
            return picture_array(_text((shape[3], shape[2]), generator), spec, shape)
        case TablesData():
            return draw_table(spec, shape, seed, index, generator)
    return draw_array(spec, shape, generator)


def picture_array(picture: Image.Image, spec: TensorInput, shape: tuple[int, ...]) -> np.ndarray:
    """A picture as an array (1, C, H, W) over the input's range; -1 to 1 where it declares none."""
    low, high = (-1.0, 1.0) if spec.low is None and spec.high is None else (spec.low or 0.0, spec.high or 1.0)
    array = levels(in_layout(picture, "RGB" if shape[1] == 3 else "G"), "RGB").numpy() / 255
    return (low + array * (high - low)).astype(spec.dtype)


def optional(inputs: Inputs, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The inputs that can be left out: a default value has the captured shape."""
    return [
        name
        for name, given in inputs.items()
        if isinstance(given, TensorInput) and given.default_value is not None and shapes[name] == captured_shape(given)
    ]


def _default(given: ImageInput | TensorInput, shape: tuple[int, ...]) -> torch.Tensor:
    """What an input is when the app leaves it out."""
    assert isinstance(given, TensorInput), "pictures have no default value"
    assert given.default_value is not None, "only inputs with a default value are left out"
    return _as_the_model_takes_it(np.full(shape, given.default_value, dtype=given.dtype))


def _picture(
    data: Data,
    shape: tuple[int, ...],
    index: int,
    digit: tuple[Image.Image, str] | None,
    generator: np.random.Generator,
) -> Image.Image:
    """One picture for an input of `shape` (N, C, H, W), in RGB, or in L for digits."""
    height, width = shape[2:]
    if digit is not None:
        return digit[0].resize((width, height), Image.Resampling.BILINEAR)
    match data:
        case TextBoxesData():
            return _text((width, height), generator)
        case NoiseData():
            return draw_noise_picture((width, height), generator)
    return draw_photograph(index, (width, height), generator)


def _text(size: tuple[int, int], generator: np.random.Generator) -> Image.Image:
    return (text_line if size[0] >= LINE * size[1] else text_page)(size, generator)


def as_sample(given: Mapping[str, Given], inputs: Inputs, label: str | int | None = None) -> Sample:
    """Values as the app gives them, and beside them as the original model takes them."""
    tensors = {}
    for name, value in given.items():
        spec = inputs[name]
        if isinstance(value, Image.Image):
            assert isinstance(spec, ImageInput), "pictures are made for image inputs alone"
            tensors[name] = levels(value, spec.color_layout)
        else:
            tensors[name] = _as_the_model_takes_it(value)
    return Sample(given=given, tensors=tensors, label=label)


def levels(picture: Image.Image, color_layout: str) -> torch.Tensor:
    """Levels of 0 to 255 as float32 (1, C, H, W), channels in the model's order."""
    levels = np.array(picture, dtype=np.float32)
    channels = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
    if color_layout == "BGR":
        channels = channels[::-1]
    return torch.from_numpy(np.ascontiguousarray(channels)[None])


def _as_the_model_takes_it(array: np.ndarray) -> torch.Tensor:
    """The same values, half precision as float32: the original model computes in float32."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array.copy())
