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
from builder.spec.inputs import ImageInput, TensorInput, captured_shape, shapes_to_try

DEFAULT_COUNT = 8
"""How many samples of endless data (photographs, noise) there are when nobody says."""


def draw_samples(
    data: Data, inputs: Mapping[str, ImageInput | TensorInput], count: int | None, seed: int, *, vary: bool = False
) -> tuple[Sample, ...]:
    """Return `count` samples, flexible dimensions at their captured size; the first ones do not depend on `count`.

    With `vary`, the samples have the shapes that the app may choose, in turn, and in every other round those that
    have a default value are left out.

    None takes all digits, or 8 of what has no end. Raises SourceError when there are not so many, or when the data
    cannot be found.
    """
    shapes = shapes_to_try(inputs)
    shapes = shapes if vary else shapes[:1]

    def sample(index: int, digit: Image.Image | None, label: str | None) -> Sample:
        shape = shapes[index % len(shapes)]
        left_out = frozenset(_optional(inputs, shape) if vary and index // len(shapes) % 2 == 1 else ())
        return _sample(data, inputs, shape, left_out, (seed, index), digit, label)

    match data:
        case DigitsData():
            pictures, labels = draw_digits(data.split, count, seed)
            return tuple(
                sample(index, picture, label)
                for index, (picture, label) in enumerate(zip(pictures, labels, strict=True))
            )
        case PhotographsData() | NoiseData():
            indices = range(DEFAULT_COUNT if count is None else count)
            return tuple(sample(index, None, None) for index in indices)


def _optional(inputs: Mapping[str, ImageInput | TensorInput], shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """The inputs that can be left out: a default value has the captured shape."""
    return [
        name
        for name, given in inputs.items()
        if isinstance(given, TensorInput) and given.default_value is not None and shapes[name] == captured_shape(given)
    ]


def _sample(
    data: Data,
    inputs: Mapping[str, ImageInput | TensorInput],
    shapes: Mapping[str, tuple[int, ...]],
    left_out: frozenset[str],
    place: tuple[int, int],
    digit: Image.Image | None,
    label: str | None,
) -> Sample:
    """One sample; `place` is the seed and the index."""
    seed, index = place
    given: dict[str, Image.Image | np.ndarray] = {}
    tensors: dict[str, torch.Tensor] = {}
    for name, spec in inputs.items():
        generator = stream(seed, index, name)
        if isinstance(spec, TensorInput) and name in left_out:
            assert spec.default_value is not None
            array = np.full(shapes[name], spec.default_value, dtype=spec.dtype)
            tensors[name] = _as_the_model_takes_it(array)
        elif isinstance(spec, TensorInput):
            array = draw_array(spec, shapes[name], generator)
            given[name], tensors[name] = array, _as_the_model_takes_it(array)
        else:
            picture = _in_layout(_picture(data, shapes[name], index, digit, generator), spec.color_layout)
            given[name], tensors[name] = picture, levels(picture, spec.color_layout)
    return Sample(given=given, tensors=tensors, label=label)


def _picture(
    data: Data, shape: tuple[int, ...], index: int, digit: Image.Image | None, generator: np.random.Generator
) -> Image.Image:
    """One picture for an input of `shape` (N, C, H, W), in RGB, or in L for digits."""
    height, width = shape[2:]
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
