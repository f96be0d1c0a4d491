"""The inputs of a prediction from files: pictures, `.npy` arrays, and numbers as they are."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from coreml_runtime.arrays import read_npy
from coreml_runtime.errors import InputError
from coreml_runtime.features import ArrayFeature, Feature, ImageFeature
from coreml_runtime.pictures import color_layout, decoded, require_sane

if TYPE_CHECKING:
    from coreml_runtime.model import Model

_MOST_OF_INPUT = 1 << 30
"""Bytes of an array that is given (1 GiB)."""


def pairs(arguments: Sequence[str]) -> dict[str, str]:
    """`name=FILE` arguments by name; raises InputError."""
    found: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name or not value:
            raise InputError(f"{argument} is not `name=FILE`", hint="name an input: `image=cat.jpg`")
        if name in found:
            raise InputError(f"input {name} is given twice")
        found[name] = value
    return found


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading; raises OSError for pipes, devices and folders, before it could block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is not a regular file")
    return os.fdopen(descriptor, "rb")


def read_inputs(
    model: Model, files: Mapping[str, str], opened: Callable[[str], BinaryIO] = open_regular
) -> dict[str, Any]:
    """The value of each input by name, from its file or number; pictures are resized to the input's size.

    `opened` opens a file. Raises InputError, with a hint, naming what is unknown, missing or unreadable.
    """
    unknown = [name for name in files if name not in model.inputs]
    if unknown:
        near = get_close_matches(unknown[0], model.inputs, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"inputs: {', '.join(model.inputs)}"
        raise InputError(f"the model has no input {unknown[0]}", hint=hint)
    missing = [
        name for name, feature in model.inputs.items() if name not in files and not getattr(feature, "optional", False)
    ]
    if missing:
        wanted = " ".join(f"{name}=FILE" for name in missing)
        raise InputError(f"no value for {', '.join(missing)}", hint=f"add {wanted}")
    return {
        name: read_input(model.inputs[name], color_layout(model, name), name, text, opened)
        for name, text in files.items()
    }


def read_input(
    feature: Feature, layout: str | None, name: str, text: str, opened: Callable[[str], BinaryIO] = open_regular
) -> Any:
    """One input from its file or number; raises InputError."""
    if isinstance(feature, ImageFeature) or (layout is not None and not text.endswith(".npy")):
        try:
            with opened(text) as stream:
                return decoded(feature, layout, stream)
        except (OSError, InputError) as error:
            reason = str(error).rpartition("cannot be read as a picture: ")[2]
            raise InputError(f"input {name}: {text} cannot be read as a picture: {reason}") from error
    if isinstance(feature, ArrayFeature):
        return _array(feature, name, text, opened)
    kind = getattr(feature, "kind", "string")
    try:
        return float(text) if kind == "double" else int(text) if kind == "int64" else text
    except ValueError as error:
        raise InputError(f"input {name}: {text} is not a number") from error


def _array(feature: ArrayFeature, name: str, text: str, opened: Callable[[str], BinaryIO]) -> object:
    try:
        if text.endswith(".npy"):
            with opened(text) as stream:
                if (size := os.fstat(stream.fileno()).st_size) > _MOST_OF_INPUT:
                    raise ValueError(f"it has {size} bytes, of which {_MOST_OF_INPUT} may be")
                return read_npy(stream)
        require_sane(feature.shape)
        return np.full(feature.shape, float(text), dtype=np.float32)
    except (OSError, ValueError, MemoryError) as error:
        raise InputError(f"input {name}: {text} is neither a readable .npy file nor a number: {error}") from error
