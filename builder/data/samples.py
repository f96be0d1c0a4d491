"""Draw samples of all inputs from any kind of data, each as the app would give it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from builder.artifacts import Preprocessing, Sample
from builder.data.collection import Samples, chosen
from builder.data.digits import draw_digits
from builder.data.fitting import fit_array, fit_picture, in_layout, scaling_of
from builder.data.folder import LabelledFile, list_pictures, open_picture
from builder.data.noise import draw_array, draw_noise_picture
from builder.data.photographs import draw_photograph
from builder.data.streams import stream
from builder.data.tensors import read_arrays
from builder.data.user import make_samples
from builder.spec.data import Data, DigitsData, FolderData, NoiseData, PhotographsData, PythonData, TensorsData
from builder.spec.inputs import ImageInput, TensorInput, captured_shape, shapes_to_try
from builder.store.digests import digest_of, file_digest

Inputs = Mapping[str, ImageInput | TensorInput]

DEFAULT_COUNT = 8
"""How many samples of endless data (photographs, noise) there are when nobody says."""


def draw_samples(
    data: Data,
    inputs: Inputs,
    count: int | None,
    seed: int,
    *,
    vary: bool = False,
    published: Preprocessing | None = None,
    key: str = "data",
) -> Samples:
    """Return `count` samples, flexible dimensions at their captured size; the first ones do not depend on `count`.

    With `vary`, the samples that are drawn or enlarged have the shapes that the app may choose, in turn, and in every
    other round those that have a default value are left out; a user's own have the shapes that they have. `published`
    is what the weights say of their pictures, and `key` the setting of the recipe that says `data`, for errors.

    None takes all of what has an end, in its order, or 8 of what has none. Raises SourceError when there are not so
    many, or when the data cannot be found or is not what the inputs declare.
    """
    draw: Any
    match data:
        case DigitsData():
            pictures, labels = draw_digits(data.split, count, seed)
            count = len(pictures)
            draw = partial(_drawn, data, inputs, seed, vary, dict(enumerate(zip(pictures, labels, strict=True))))
        case PhotographsData() | NoiseData():
            count = DEFAULT_COUNT if count is None else count
            draw = partial(_drawn, data, inputs, seed, vary, {})
        case FolderData():
            return _from_folder(data, inputs, count, seed, published, key)
        case TensorsData():
            return _from_arrays(data, inputs, count, seed, key)
        case PythonData():
            return _from_factory(data, inputs, count, seed, key)
    return Samples(count, draw, kind=data.kind)


def _from_folder(
    data: FolderData, inputs: Inputs, count: int | None, seed: int, published: Preprocessing | None, key: str
) -> Samples:
    ((name, given),) = inputs.items()
    assert isinstance(given, ImageInput), "compatibility demands one image input"
    files = list_pictures(data, key)
    order = chosen(len(files), count, seed, kind=data.kind, what=data.folder, key=key)
    taken = [files[index] for index in order]
    scaling = scaling_of(data, given, published, key)

    def make(index: int) -> Sample:
        file, place = taken[index], f"{key}.folder"
        picture = fit_picture(open_picture(file.path, place), given, scaling, where=str(file.path), key=place)
        return _sample({name: picture}, inputs, file.label)

    return Samples(len(taken), make, kind=data.kind, digest=partial(_digest_of_files, data, taken))


def _digest_of_files(data: FolderData, files: list[LabelledFile]) -> str:
    return digest_of(
        [[file.path.relative_to(data.folder).as_posix(), file_digest(file.path), file.label] for file in files]
    )


def _from_arrays(data: TensorsData, inputs: Inputs, count: int | None, seed: int, key: str) -> Samples:
    arrays = read_arrays(data, inputs, key)
    order = chosen(arrays.count, count, seed, kind=data.kind, what=data.file, key=key)

    def make(index: int) -> Sample:
        place = order[index]
        given = arrays.values(place, inputs, key)
        return _fitted(given, inputs, arrays.label(place, key), f"sample {place}", f"{key}.file")

    return Samples(len(order), make, kind=data.kind)


def _from_factory(data: PythonData, inputs: Inputs, count: int | None, seed: int, key: str) -> Samples:
    made = make_samples(data, list(inputs), count, key)
    order = chosen(len(made), count, seed, kind=data.kind, what=data.factory, key=key)

    def make(index: int) -> Sample:
        given, label = made[order[index]]
        return _fitted(given, inputs, label, f"sample {order[index]} of {data.factory}", f"{key}.factory")

    return Samples(len(order), make, kind=data.kind)


def _fitted(given: Mapping[str, Any], inputs: Inputs, label: str | int | None, where: str, key: str) -> Sample:
    """A sample of the user's own values, each checked against what its input declares."""
    fitted: dict[str, Image.Image | np.ndarray] = {
        name: fit_picture(given[name], spec, None, where=f"{where}: {name}", key=key)
        if isinstance(spec, ImageInput)
        else fit_array(given[name], spec, where=f"{where}: {name}", key=key)
        for name, spec in inputs.items()
    }
    return _sample(fitted, inputs, label)


def _sample(given: Mapping[str, Image.Image | np.ndarray], inputs: Inputs, label: str | int | None) -> Sample:
    tensors = {}
    for name, value in given.items():
        spec = inputs[name]
        if isinstance(value, Image.Image):
            assert isinstance(spec, ImageInput), "pictures are made for image inputs alone"
            tensors[name] = levels(value, spec.color_layout)
        else:
            tensors[name] = _as_the_model_takes_it(value)
    return Sample(given=given, tensors=tensors, label=label)


def _drawn(
    data: Data, inputs: Inputs, seed: int, vary: bool, digits: Mapping[int, tuple[Image.Image, str]], index: int
) -> Sample:
    """A sample of what is drawn, or enlarged from a digit: any shape can be had."""
    shapes = shapes_to_try(inputs)
    shape = shapes[index % len(shapes)] if vary else shapes[0]
    second_round = vary and index // len(shapes) % 2 == 1
    left_out = _optional(inputs, shape) if second_round else ()
    digit, label = digits.get(index, (None, None))
    given: dict[str, Image.Image | np.ndarray] = {}
    for name, spec in inputs.items():
        generator = stream(seed, index, name)
        if isinstance(spec, ImageInput):
            given[name] = in_layout(_picture(data, shape[name], index, digit, generator), spec.color_layout)
        elif name not in left_out:
            given[name] = draw_array(spec, shape[name], generator)
    drawn = _sample(given, inputs, label)
    tensors = {name: drawn.tensors[name] if name in given else _default(inputs[name], shape[name]) for name in inputs}
    return Sample(given=given, tensors=tensors, label=label)


def _optional(inputs: Inputs, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
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
    data: Data, shape: tuple[int, ...], index: int, digit: Image.Image | None, generator: np.random.Generator
) -> Image.Image:
    """One picture for an input of `shape` (N, C, H, W), in RGB, or in L for digits."""
    height, width = shape[2:]
    if digit is not None:
        return digit.resize((width, height), Image.Resampling.BILINEAR)
    if isinstance(data, PhotographsData):
        return draw_photograph(index, (width, height), generator)
    return draw_noise_picture((width, height), generator)


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
