"""Looks at a model, wherever it is, and drafts a recipe that builds it."""

from __future__ import annotations

import os
import re
from pathlib import Path

from builder.analysis.init.draft import Draft
from builder.errors import ConfigurationError, SourceError
from builder.util.reading import UnfitFileError, require_contained, require_regular

_ARTIFACTS = (".mlpackage", ".mlmodel", ".aimodel")
_OF_TORCH = (".pth", ".pt", ".bin", ".ckpt", ".safetensors", ".pt2", ".jit")
SUFFIXES = (*_OF_TORCH, ".onnx", ".mlpackage", ".mlmodel", ".aimodel")
"""Of files that `init` looks into."""

NAMED = ("torchvision", "timm")
"""Libraries whose models are named `library:model`."""

WAYS = (
    "a file (.pth, .safetensors, .pt, .pt2, .jit, .onnx, .mlpackage, .aimodel), torchvision:NAME, timm:NAME or "
    "package.module:factory"
)


def inspect_source(text: str, recipes: Path) -> Draft:
    """Return the draft of a recipe for what `text` names; the recipe will lie in the folder `recipes`.

    Raises ConfigurationError when it names nothing, SourceError when it cannot be read.
    """
    path = Path(text)
    if path.suffix in SUFFIXES or path.exists():
        return _inspect_file(path, recipes)
    library, colon, name = text.partition(":")
    if colon and library in NAMED and name:
        return _inspect_named(library, name)
    if colon and name and all(part.isidentifier() for part in [*library.split("."), *name.split(".")]):
        from builder.analysis.init.modules import inspect_factory

        return inspect_factory(text, as_name(name))
    raise ConfigurationError(f"{text} is not a model that can be looked at", code="B0266", hint=f"give {WAYS}")


def _inspect_named(library: str, name: str) -> Draft:
    from builder.analysis.init.named import inspect_timm, inspect_torchvision

    inspect = inspect_torchvision if library == "torchvision" else inspect_timm
    return inspect(name, as_name(name))


def _inspect_file(path: Path, recipes: Path) -> Draft:
    if not path.exists():
        raise ConfigurationError(f"there is no file {path}", code="B0226")
    try:
        require_contained(path) if path.suffix in _ARTIFACTS else require_regular(path)
    except UnfitFileError as error:
        raise SourceError(f"{error.filename} {error.strerror}", code="B0302") from error
    name, written = as_name(path.stem), _as_written(path, recipes)
    match path.suffix:
        case ".onnx":
            from builder.analysis.init.onnx import inspect_onnx

            return inspect_onnx(path, written, name)
        case ".mlpackage" | ".mlmodel":
            from builder.analysis.init.coreml import inspect_coreml

            return inspect_coreml(path, written, name)
        case ".aimodel":
            from builder.analysis.init.coreai import inspect_coreai

            return inspect_coreai(path, name)
        case suffix if suffix in _OF_TORCH:
            from builder.analysis.init.files import inspect_torch_file

            return inspect_torch_file(path, written, name)
        case _ if path.is_file():
            from builder.analysis.init.files import inspect_torch_file
            from builder.model.sources.programs import is_of_torch

            if is_of_torch(path):  # `.pth.tar`, or no suffix at all
                return inspect_torch_file(path, written, name)
    raise ConfigurationError(f"{path} is of no kind that can be looked at", code="B0266", hint=f"give {WAYS}")


def as_name(text: str) -> str:
    """A name for a recipe, made of what the model is called."""
    return re.sub(r"[^\w-]+", "_", text).strip("_") or "model"


def _as_written(path: Path, recipes: Path) -> str:
    """The path as the recipe says it: relative to the recipe itself, or absolute where it was given so."""
    return str(path) if path.is_absolute() else Path(os.path.relpath(path, recipes)).as_posix()
