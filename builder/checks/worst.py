"""The worst input that a check found: saved beside the record, and tried first by the next build of the same inputs."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from builder.checks.domain import Inputs, Point
from builder.checks.subject import Subject
from builder.data.fitting import in_layout, takes
from builder.data.stress import bounds
from builder.noop import cache_folder
from builder.spec.inputs import ImageInput
from builder.store.digests import digest_of
from builder.store.objects import atomic_file
from builder.util.npz import read_npz
from builder.util.reading import open_regular

_LOG = logging.getLogger("builder.checks")
MOST_BYTES = 2**24
"""A larger input is not kept."""


def encoded(point: Point) -> bytes | None:
    """A `.npz` with one array for each input, as `data: {kind: tensors}` reads it; None where it is too large."""
    arrays = {name: np.asarray(value)[None] for name, value in point.items()}
    if sum(array.nbytes for array in arrays.values()) > MOST_BYTES:
        return None
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def remember(subject: Subject, name: str, found: bytes) -> None:
    """Keep the worst input of check `name` in the cache."""
    path = _path(subject, name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, path.parent) as stream:
            stream.write(found)
    except OSError as error:  # the next build begins its search elsewhere
        _LOG.debug("%s cannot be written: %s", path, error)


def recall(subject: Subject, name: str) -> Point | None:
    """The worst input that an earlier build of the same inputs and outputs found, if it is what they declare."""
    path = _path(subject, name)
    if not path.is_file():
        return None
    try:
        with open_regular(path) as stream:
            arrays = {key: value[0] for key, value in read_npz(stream).items()}
    except (OSError, ValueError, IndexError):
        path.unlink(missing_ok=True)  # half written by a machine that went down: the search finds another
        return None
    return _fitted(arrays, subject.spec.artifact_inputs)


def _fitted(arrays: Mapping[str, np.ndarray], inputs: Inputs) -> Point | None:
    if set(arrays) != set(inputs):
        return None
    point: dict[str, Image.Image | np.ndarray] = {}
    for name, given in inputs.items():
        array = arrays[name]
        if isinstance(given, ImageInput):
            try:
                picture = Image.fromarray(array)
            except (TypeError, ValueError):  # not levels of a picture
                return None
            if not takes(given, (1, 3 if picture.mode == "RGB" else 1, picture.height, picture.width)):
                return None
            point[name] = in_layout(picture, given.color_layout) if picture.mode != "F" else picture
            continue
        low, high = bounds(given)
        if array.dtype != given.dtype or not takes(given, array.shape) or array.min() < low or array.max() > high:
            return None
        point[name] = array
    return point


def _path(subject: Subject, name: str) -> Path:
    """Where it lies: by the names, shapes and ranges of inputs and outputs, and the check."""
    inputs = {key: given.model_dump(mode="json") for key, given in subject.spec.artifact_inputs.items()}
    key = digest_of([name, subject.function, inputs, list(subject.prepared.output_names)])
    return Path(cache_folder()) / "worst" / f"{key.removeprefix('sha256:')[:32]}.npz"
