"""Draw samples of all inputs: pictures from the data for image inputs, seeded noise for tensors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from PIL import Image

from builder.artifacts import Sample
from builder.data.digits import draw_digits
from builder.data.noise import draw_array, draw_noise_picture
from builder.data.photographs import draw_photograph
from builder.data.streams import stream
from builder.spec.data import Data, DigitsData, NoiseData, PhotographsData
from builder.spec.inputs import ImageInput, TensorInput, captured_shape

DEFAULT_COUNT = 8
"""How many samples of endless data (photographs, noise) there are when nobody says."""


def draw_samples(
    data: Data, inputs: Mapping[str, ImageInput | TensorInput], count: int | None, seed: int
) -> tuple[Sample, ...]:
    """Return `count` samples, flexible dimensions at their captured size; the first ones do not depend on `count`.

    None takes all digits, or 8 of what has no end. Raises SourceError when there are not so many, or when the data
    cannot be found.
    """
    match data:
        case DigitsData():
            pictures, labels = draw_digits(data.split, count, seed)
            return tuple(
                _sample(data, inputs, seed, index, picture, label)
                for index, (picture, label) in enumerate(zip(pictures, labels, strict=True))
            )
        case PhotographsData() | NoiseData():
            indices = range(DEFAULT_COUNT if count is None else count)
            return tuple(_sample(data, inputs, seed, index, None, None) for index in indices)


def _sample(
    data: Data,
    inputs: Mapping[str, ImageInput | TensorInput],
    seed: int,
    index: int,
    digit: Image.Image | None,
    label: str | None,
) -> Sample:
    given: dict[str, Image.Image | np.ndarray] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, spec in inputs.items():
        generator = stream(seed, index, name)
        if isinstance(spec, TensorInput):
            array = draw_array(spec, generator)
            given[name], tensors[name] = array, _as_the_model_takes_it(array)
        else:
            picture = _in_layout(_picture(data, spec, index, digit, generator), spec.color_layout)
            given[name], tensors[name] = picture, _levels(picture, spec.color_layout)
    return Sample(given=given, tensors=tensors, label=label)


def _picture(
    data: Data, spec: ImageInput, index: int, digit: Image.Image | None, generator: np.random.Generator
) -> Image.Image:
    """One picture of the input's captured size, in RGB, or in L for digits."""
    height, width = captured_shape(spec)[2:]
    if digit is not None:
        return digit.resize((width, height), Image.Resampling.BILINEAR)
    if isinstance(data, PhotographsData):
        return draw_photograph(index, (width, height), generator)
    return draw_noise_picture((width, height), generator)


def _in_layout(picture: Image.Image, color_layout: str) -> Image.Image:
    """Convert to what `MLModel.predict` takes: RGB (for BGR models too), L, or F with levels of 0 to 255."""
    match color_layout:
        case "G":
            return picture.convert("L")
        case "G16":
            return picture.convert("L").convert("F")
        case _:
            return picture.convert("RGB")


def _levels(picture: Image.Image, color_layout: str) -> torch.Tensor:
    """Levels of 0 to 255 as float32 (1, C, H, W), channels in the model's order."""
    levels = np.array(picture, dtype=np.float32)
    channels = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
    if color_layout == "BGR":
        channels = channels[::-1]
    return torch.from_numpy(np.ascontiguousarray(channels)[None])


def _as_the_model_takes_it(array: np.ndarray) -> torch.Tensor:
    """The same values, half precision as float32: the original model computes in float32."""
    return torch.from_numpy(array.astype(np.float32) if array.dtype == np.float16 else array.copy())
