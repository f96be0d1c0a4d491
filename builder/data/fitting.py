"""Pictures and arrays of users as an input takes them: in its size, layout and dtype, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from builder.artifacts.stages import Preprocessing
from builder.errors import SourceError
from builder.spec.data import FolderData
from builder.spec.inputs import ImageInput, RangeDimension, TensorInput, border_sizes, captured_shape

_MODES = ("RGB", "L")
"""Modes of 8-bit pictures that become any layout without a choice that the app might make otherwise."""
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How a picture gets the input's size: `stretch`, `crop`, or the pixels of its shorter side before the cut."""

    way: str | int
    resampling: Image.Resampling


def scaling_of(data: FolderData, given: ImageInput, published: Preprocessing | None, key: str) -> Scaling | None:
    """Return what `data.resize` says; raises SourceError when it takes a number that the weights do not publish."""
    if data.resize is None:
        return None
    if data.resize != "from_weights":
        return Scaling(way=data.resize, resampling=_FILTERS[data.interpolation or "bilinear"])
    if published is None or published.resize_size is None:
        raise SourceError(
            "the weights do not publish how pictures are scaled",
            code="B0320",
            hint="write `resize: 256`",
            key=f"{key}.resize",
        )
    height, width = captured_shape(given)[2:]
    if published.crop_size not in (None, height) or height != width:
        raise SourceError(
            f"the weights cut {published.crop_size} x {published.crop_size} pixels, and the input is "
            f"{width} x {height}",
            code="B0331",
            hint="write the pixels of the shorter side: `resize: 256`",
            key=f"{key}.resize",
        )
    name = data.interpolation or published.interpolation
    if name not in _FILTERS:
        raise SourceError(
            f"the weights say that pictures are scaled {name}",
            code="B0331",
            hint="write `interpolation: bilinear` or `interpolation: bicubic`",
            key=f"{key}.resize",
        )
    return Scaling(way=published.resize_size, resampling=_FILTERS[name])


def fit_picture(picture: object, given: ImageInput, scaling: Scaling | None, *, where: str, key: str) -> Image.Image:
    """Return a picture as `MLModel.predict` takes it; raises SourceError for a wrong mode or size."""
    if not isinstance(picture, Image.Image):
        raise SourceError(
            f"{where} is of {type(picture).__name__}, and the input takes a Pillow picture", code="B0331", key=key
        )
    fitted = in_layout(_in_known_mode(picture, where, key), given.color_layout)
    if scaling is not None:
        height, width = captured_shape(given)[2:]
        fitted = _scaled(fitted, (width, height), scaling, where, key)
    if not takes(given, (1, 3 if fitted.mode == "RGB" else 1, fitted.height, fitted.width)):
        raise SourceError(
            f"{where} has {fitted.width} x {fitted.height} pixels, and the input takes {_sizes(given)}",
            code="B0331",
            hint="`resize: crop`, `stretch`, `from_weights` or a number of pixels scales the pictures of a folder",
            key=key,
        )
    return fitted


def fit_array(array: object, given: TensorInput, *, where: str, key: str) -> np.ndarray:
    """Return an array with the input's dtype and shape; raises SourceError for another, and for NaN and infinity."""
    values = array.numpy() if isinstance(array, torch.Tensor) else array
    if isinstance(values, np.generic):  # an array of rank 0 taken out of another
        values = np.asarray(values)
    if not isinstance(values, np.ndarray):
        raise SourceError(f"{where} is of {type(array).__name__}, and the input takes an array", code="B0331", key=key)
    if values.dtype != np.dtype(given.dtype):
        raise SourceError(
            f"{where} is {values.dtype}, and the input takes {given.dtype}",
            code="B0331",
            hint=f"write it as `array.astype(numpy.{given.dtype})`: numbers are not converted silently",
            key=key,
        )
    if takes(given, (1, *values.shape)) and not takes(given, values.shape):
        values = values[None]
    if not takes(given, values.shape):
        raise SourceError(
            f"{where} has shape {values.shape}, and the input takes {_shapes(given)}", code="B0331", key=key
        )
    if not np.isfinite(values).all():
        bad = "NaN" if np.isnan(values).any() else "infinity"
        at = tuple(int(place[0]) for place in np.nonzero(~np.isfinite(values)))
        raise SourceError(f"{where} holds {bad}, first at {at}; inputs are finite", code="B0331", key=key)
    _check_range(values, given, where, key)
    return values


def _check_range(values: np.ndarray, given: TensorInput, where: str, key: str) -> None:
    """Raise SourceError for a value that the input's `low` and `high` rule out."""
    if not values.size:
        return
    least, greatest = values.min(), values.max()
    if given.low is not None and least < np.asarray(given.low, values.dtype):
        raise SourceError(
            f"{where} holds {least:g}, and the input has `low: {given.low:g}`",
            code="B0331",
            hint="low and high say what the app gives: widen them, or leave them out",
            key=key,
        )
    is_beyond = greatest >= given.high if given.high is not None and values.dtype == np.int32 else False
    if given.high is not None and (is_beyond or greatest > np.asarray(given.high, values.dtype)):
        raise SourceError(
            f"{where} holds {greatest:g}, and the input has `high: {given.high:g}`"
            + (", which is the first integer that it does not take" if is_beyond else ""),
            code="B0331",
            hint="low and high say what the app gives: widen them, or leave them out",
            key=key,
        )


def takes(given: ImageInput | TensorInput, shape: Sequence[int]) -> bool:
    """Whether the app may give an input this shape."""
    if given.enumerated_shapes is not None:
        return list(shape) in given.enumerated_shapes
    sizes = border_sizes(given)
    return len(shape) == len(sizes) and all(
        allowed.min <= size <= allowed.max if isinstance(allowed, RangeDimension) else size == allowed
        for size, allowed in zip(shape, sizes, strict=True)
    )


def in_layout(picture: Image.Image, color_layout: str) -> Image.Image:
    """Convert to what `MLModel.predict` takes: RGB (for BGR models too), L, or F with levels of 0 to 255."""
    match color_layout:
        case "G":
            return picture.convert("L")
        case "G16":
            return picture.convert("L").convert("F")
        case _:
            return picture.convert("RGB")


def _in_known_mode(picture: Image.Image, where: str, key: str) -> Image.Image:
    if picture.mode in _MODES:
        return picture
    if picture.mode in ("1", "P") and "transparency" not in picture.info:
        return picture.convert("RGB")
    raise SourceError(
        f"{where} has mode {picture.mode}, and the input takes {' or '.join(_MODES)}, 8 bits a channel",
        code="B0331",
        hint="save it without transparency: only the app knows what is behind" if "A" in picture.mode else None,
        key=key,
    )


def _scaled(picture: Image.Image, size: tuple[int, int], scaling: Scaling, where: str, key: str) -> Image.Image:
    """`picture` in `size` (width, height), as torchvision's Resize and CenterCrop make it where `way` is a number."""
    if scaling.way == "stretch":
        return picture.resize(size, scaling.resampling)
    width, height = size
    short, long = sorted(picture.size)
    if isinstance(scaling.way, int):
        longer = int(scaling.way * long / short)
        scaled = (scaling.way, longer) if picture.width <= picture.height else (longer, scaling.way)
    else:
        factor = max(width / picture.width, height / picture.height)
        scaled = (max(width, round(picture.width * factor)), max(height, round(picture.height * factor)))
    if scaled[0] < width or scaled[1] < height:
        raise SourceError(
            f"{where} is scaled to {scaled[0]} x {scaled[1]} pixels, from which {width} x {height} cannot be cut",
            code="B0331",
            hint=f"write `resize: {max(size)}` or more, or `resize: crop`",
            key=key,
        )
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    return picture.resize(scaled, scaling.resampling).crop((left, top, left + width, top + height))


def _sizes(given: ImageInput) -> str:
    """The sizes of pictures for people: `224 x 224`, or `32 to 64 x 32`."""
    if given.enumerated_shapes is not None:
        return " or ".join(f"{shape[3]} x {shape[2]}" for shape in given.enumerated_shapes)
    height, width = (_size(dimension) for dimension in given.shape[2:])
    return f"{width} x {height}"


def _shapes(given: TensorInput) -> str:
    if given.enumerated_shapes is not None:
        return " or ".join(f"({', '.join(map(str, shape))})" for shape in given.enumerated_shapes)
    return f"({', '.join(_size(dimension) for dimension in border_sizes(given))})"


def _size(dimension: int | RangeDimension) -> str:
    return f"{dimension.min} to {dimension.max}" if isinstance(dimension, RangeDimension) else str(dimension)
