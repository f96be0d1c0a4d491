"""Draw samples of all inputs from any kind of data, each as the app would give it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from PIL import Image

from builder.artifacts.stages import Preprocessing, Sample
from builder.data.collection import Samples, chosen
from builder.data.digits import draw_digits
from builder.data.drawing import Given, Inputs, as_sample, draw_sample
from builder.data.fitting import fit_array, fit_picture, scaling_of
from builder.data.folder import LabelledFile, list_pictures, open_picture
from builder.data.tensors import read_arrays
from builder.data.user import make_samples
from builder.spec.data import Data, DigitsData, FolderData, PythonData, TensorsData
from builder.spec.inputs import ImageInput, shapes_to_try
from builder.store.digests import digest_of, file_digest

DEFAULT_COUNT = 8
"""How many samples of endless data (photographs, noise) there are when nobody says."""


def draw_samples(
    data: Data,
    inputs: Inputs,
    count: int | None,
    seed: int,
    *,
    vary: bool = False,
    masks: bool = True,
    shuffled: bool = False,
    published: Preprocessing | None = None,
    key: str = "data",
) -> Samples:
    """Return `count` samples, flexible dimensions at their captured size; the first ones do not depend on `count`.

    With `vary`, the samples that are drawn or enlarged have the shapes that the app may choose, in turn, and in every
    other round those that have a default value are left out; a user's own have the shapes that they have. `masks` says
    whether noise for masks is as apps give them. `published` is what the weights say of their pictures, and `key` the
    setting of the recipe that says `data`, for errors.

    None takes all of what has an end, in its order or `shuffled` by the seed, or 8 of what has none. Raises
    SourceError when there are not so many, or when the data cannot be found or is not what the inputs declare.
    """
    match data:
        case DigitsData():
            pictures, labels = draw_digits(data.split, count, seed)
            digits = list(zip(pictures, labels, strict=True))
            make = partial(_drawn, data, inputs, seed, vary, masks, digits)
            return Samples(len(digits), make, kind=data.kind)
        case FolderData():
            return _from_folder(data, inputs, count, seed, shuffled, published, key)
        case TensorsData():
            return _from_arrays(data, inputs, count, seed, shuffled, key)
        case PythonData():
            return _from_factory(data, inputs, count, seed, shuffled, key)
    make = partial(_drawn, data, inputs, seed, vary, masks, [])
    return Samples(DEFAULT_COUNT if count is None else count, make, kind=data.kind)


def _from_folder(
    data: FolderData,
    inputs: Inputs,
    count: int | None,
    seed: int,
    shuffled: bool,
    published: Preprocessing | None,
    key: str,
) -> Samples:
    ((name, given),) = inputs.items()
    assert isinstance(given, ImageInput), "compatibility demands one image input"
    files = list_pictures(data, key)
    order = chosen(len(files), count, seed, kind=data.kind, what=data.folder, key=key, shuffled=shuffled)
    taken = [files[index] for index in order]
    scaling = scaling_of(data, given, published, key)

    def make(index: int) -> Sample:
        file, place = taken[index], f"{key}.folder"
        picture = fit_picture(open_picture(file.path, place), given, scaling, where=str(file.path), key=place)
        return as_sample({name: picture}, inputs, file.label)

    return Samples(
        len(taken), make, kind=data.kind, available=len(files), digest=partial(_digest_of_files, data, taken)
    )


def _digest_of_files(data: FolderData, files: list[LabelledFile]) -> str:
    return digest_of(
        [[file.path.relative_to(data.folder).as_posix(), file_digest(file.path), file.label] for file in files]
    )


def _from_arrays(data: TensorsData, inputs: Inputs, count: int | None, seed: int, shuffled: bool, key: str) -> Samples:
    arrays = read_arrays(data, inputs, key)
    order = chosen(arrays.count, count, seed, kind=data.kind, what=data.file, key=key, shuffled=shuffled)

    def make(index: int) -> Sample:
        place = order[index]
        given = arrays.values(place, inputs, key)
        return _fitted(given, inputs, arrays.label(place, key), f"sample {place}", f"{key}.file")

    return Samples(len(order), make, kind=data.kind, available=arrays.count)


def _from_factory(data: PythonData, inputs: Inputs, count: int | None, seed: int, shuffled: bool, key: str) -> Samples:
    made = make_samples(data, list(inputs), count, key)
    order = chosen(len(made), count, seed, kind=data.kind, what=data.factory, key=key, shuffled=shuffled)

    def make(index: int) -> Sample:
        given, label = made[order[index]]
        return _fitted(given, inputs, label, f"sample {order[index]} of {data.factory}", f"{key}.factory")

    return Samples(len(order), make, kind=data.kind, available=len(made))


def _fitted(given: Mapping[str, object], inputs: Inputs, label: str | int | None, where: str, key: str) -> Sample:
    """A sample of the user's own values, each checked against what its input declares."""
    fitted: dict[str, Given] = {
        name: fit_picture(given[name], spec, None, where=f"{where}: {name}", key=key)
        if isinstance(spec, ImageInput)
        else fit_array(given[name], spec, where=f"{where}: {name}", key=key)
        for name, spec in inputs.items()
    }
    return as_sample(fitted, inputs, label)


def _drawn(
    data: Data,
    inputs: Inputs,
    seed: int,
    vary: bool,
    masks: bool,
    digits: Sequence[tuple[Image.Image, str]],
    index: int,
) -> Sample:
    """A sample of what is drawn, or enlarged from a digit: any shape can be had."""
    shapes = shapes_to_try(inputs)
    return draw_sample(
        data,
        inputs,
        seed,
        index,
        shapes[index % len(shapes)] if vary else shapes[0],
        left_out=vary and index // len(shapes) % 2 == 1,
        masks=masks,
        digit=digits[index] if digits else None,
    )
