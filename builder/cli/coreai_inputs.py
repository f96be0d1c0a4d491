"""What an `.aimodel` keeps beside its program, for `predict`: pictures as arrays of levels, labels of classes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.errors import ConfigurationError
from builder.util.reading import open_regular

_MOST_ELEMENTS = 1 << 28
"""Of an input that is filled or resized for a model."""


def color_layout(model: Any, name: str) -> str | None:
    """How the channels of a picture lie that this input takes; None where it is not a picture of an `.aimodel`."""
    own = _own(model)
    functions = own.get("functions", {})
    inputs = functions.get(model.function, {}).get("inputs") if functions else own.get("inputs")
    found = (inputs or {}).get(name, {}).get("color_layout")
    return str(found) if found else None


def _own(model: Any) -> Mapping[str, Any]:
    metadata = getattr(model.specification, "metadata", None)
    own = metadata.get("creatorDefinedMetadata") if isinstance(metadata, Mapping) else None
    return own if isinstance(own, Mapping) else {}


def require_sane(shape: Sequence[int]) -> None:
    """Raise ValueError where a model, which others may have made, declares an input that no device holds."""
    if math.prod(shape) > _MOST_ELEMENTS:
        raise ValueError(f"the model declares an input of shape {tuple(shape)}")


def read_picture(feature: Any, layout: str, name: str, text: str) -> Any:
    """A picture file as levels (1, C, H, W) in the input's size and type."""
    import numpy as np
    from PIL import Image

    try:
        require_sane(feature.shape)
        with open_regular(Path(text)) as stream, Image.open(stream) as opened:
            picture = opened.convert("L" if layout.startswith("G") else "RGB")
    except Exception as error:  # decoders raise types of their own on damaged files
        raise ConfigurationError(f"input {name}: {text} cannot be read as a picture: {error}", code="B0228") from error
    height, width = feature.shape[2:]
    if not feature.ranges and picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    levels = np.asarray(picture)
    channels = levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)
    return np.ascontiguousarray((channels[::-1] if layout == "BGR" else channels)[None]).astype(feature.dtype)


def with_labels(path: Path, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs of an `.aimodel`, the first as a probability by label where the metadata has labels for it."""
    from builder.backends import backend_of_file

    found = dict(outputs)
    labels = backend_of_file(path).describe(path).labels
    first = next(iter(found), None)
    if labels is not None and first is not None and getattr(found[first], "size", 0) == len(labels):
        found[first] = dict(zip(labels, found[first].reshape(-1).tolist(), strict=True))
    return found
