"""A picture of any size and colours as a model's input takes it."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from coreml_runtime.errors import InputError
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature
from coreml_runtime.picture_files import opened_picture

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from google.protobuf.message import Message
    from PIL.Image import Image

    from coreml_runtime.model import Model

LAYOUTS = ("RGB", "BGR", "G", "G16")
"""How the channels of a picture may lie in an array."""
_MOST_ELEMENTS = 1 << 28
"""Of an input that is filled or resized for a model."""


def color_layout(model: Model, name: str) -> str | None:
    """How the channels of a picture lie that an array of an `.aimodel` takes (metadata); None for other inputs."""
    feature = model.inputs.get(name)
    found = known_inputs(own_metadata(model.specification), model.function).get(name, {}).get("color_layout")
    is_levels = found in LAYOUTS and isinstance(feature, ArrayFeature) and len(feature.shape) == 4
    return str(found) if is_levels else None


def known_inputs(own: Mapping[str, object], function: str | None) -> Mapping[str, Mapping[str, object]]:
    """What its maker wrote down of the inputs of a function, by name; whatever is of another form says nothing."""
    functions = own.get("functions")
    section = functions.get(function) if isinstance(functions, Mapping) and functions else own
    inputs = section.get("inputs") if isinstance(section, Mapping) else None
    known = inputs if isinstance(inputs, Mapping) else {}
    return {name: given for name, given in known.items() if isinstance(given, Mapping)}


def own_metadata(specification: Message) -> Mapping[str, Any]:
    """What an `.aimodel`'s maker wrote down for apps; empty for other models."""
    metadata = getattr(specification, "metadata", None)
    own = metadata.get("creatorDefinedMetadata") if isinstance(metadata, Mapping) else None
    return own if isinstance(own, Mapping) else {}


def require_sane(shape: Sequence[int]) -> None:
    """Raise ValueError where a model, which others may have made, declares an input that no device holds."""
    if math.prod(shape) > _MOST_ELEMENTS:
        raise ValueError(f"the model declares an input of shape {tuple(shape)}")


def decoded(feature: Feature, layout: str | None, source: Path | BinaryIO) -> Any:
    """The input for a picture file: `source` is a path or a binary stream.

    Raises InputError for what is not a picture.
    """
    from PIL import UnidentifiedImageError

    try:
        size = (feature.width, feature.height) if isinstance(feature, ImageFeature) else feature.shape  # type: ignore[union-attr]  # an array's
        require_sane(size)
        with opened_picture(source) as opened:
            opened.load()
            return fitted(feature, layout, opened)
    except UnidentifiedImageError as error:
        reason = "it is not the content of a PNG, JPEG or other picture file"
        raise InputError(f"input {feature.name}: cannot be read as a picture: {reason}") from error
    except Exception as error:  # decoders raise types of their own on damaged files
        raise InputError(f"input {feature.name}: cannot be read as a picture: {error}") from error


def decoded_bytes(feature: Feature, layout: str | None, content: bytes) -> Any:
    """The input for the content of a picture file; raises InputError."""
    return decoded(feature, layout, io.BytesIO(content))


def fitted(feature: Feature, layout: str | None, picture: Any) -> Any:
    """A PIL image in the input's colours and, where that is fixed, its size; as levels where the input is an array.

    With a `layout` (`RGB`, `BGR`, `G…`) the result is an array (1, C, H, W) of 0 to 255 in the input's type.
    """
    from PIL import Image

    if isinstance(feature, ImageFeature):
        picture = picture.convert("RGB" if feature.color in ("RGB", "BGR") else "L")
        if not feature.enumerated and feature.width_range is None:
            picture = _resized(picture, (feature.width, feature.height))
        if feature.color == "GRAYSCALE_FLOAT16":
            return Image.fromarray(np.asarray(picture, dtype=np.float32))
        return picture
    shape, ranges, dtype = feature.shape, feature.ranges, feature.dtype  # type: ignore[union-attr] # an array
    picture = picture.convert("L" if str(layout).startswith("G") else "RGB")
    levels = np.asarray(picture if ranges else _resized(picture, (shape[3], shape[2])))
    channels = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
    ordered = channels[::-1] if layout == "BGR" else channels
    return np.ascontiguousarray(ordered[None]).astype({"fp32": "float32", "fp16": "float16"}.get(dtype, dtype))


def _resized(picture: Image, size: tuple[int, int]) -> Image:
    from PIL import Image

    return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)
