"""From a path to a parsed specification: `.mlpackage` folders and `.mlmodel` files."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.mapping import Buffer, map_file
from coreml_runtime.proto import messages
from coreml_runtime.wire import cut_weights

if TYPE_CHECKING:
    from google.protobuf.message import Message

MODEL_PATH = "@model_path"


@dataclass(frozen=True, kw_only=True)
class Package:
    """A parsed model. `root` is what "@model_path" in weight references means; None for a bare specification.

    `content` is the file that the large weights of its neural networks were cut out of (see wire); else it is empty.
    """

    path: Path
    specification: Message
    root: Path | None
    content: Buffer = b""


def open_package(path: str | Path) -> Package:
    """Read the file or folder at `path`; anything that is not a Core ML model is a ModelError."""
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder")
    if path.suffix == ".mlmodelc":
        raise ModelError(f"{path}: compiled models are not read; give the .mlpackage or .mlmodel they came from")
    file = _model_file(path) if path.is_dir() else path
    _refuse_special(file)
    content = map_file(file)
    cut = cut_weights(content)
    specification = _parse(content[:] if cut is None else cut, file)
    return Package(path=path, specification=specification, root=file.parent, content=b"" if cut is None else content)


def program_package(package: Package) -> Package:
    """The package, or of a pipeline the first of its stages that is an ML program; else UnsupportedError."""
    specification = package.specification
    kind = specification.WhichOneof("Type")
    if kind.startswith("pipeline"):
        message = specification.pipeline if kind == "pipeline" else getattr(specification, kind).pipeline
        for index, stage in enumerate(message.models):
            if stage.WhichOneof("Type") == "mlProgram":
                return replace(package, path=Path(f"{package.path}#{index}"), specification=stage)
    if kind != "mlProgram":
        raise UnsupportedError(f"a {kind} has no ML program")
    return package


def resolve(package: Package, file_name: str) -> Path:
    """The file that a weight reference such as "@model_path/weights/weight.bin" means, inside the package."""
    if package.root is None:
        raise ModelError(f"{package.path}: refers to {file_name!r} but has no weights folder")
    if not file_name.startswith(MODEL_PATH + "/"):
        raise ModelError(f"{package.path}: weight file {file_name!r} does not start with {MODEL_PATH}/")
    return _inside(package.root, file_name.removeprefix(MODEL_PATH + "/"), package.path)


def _model_file(folder: Path) -> Path:
    manifest_path = folder / "Manifest.json"
    _refuse_special(manifest_path)
    try:
        manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{folder}: no Manifest.json, so this is no .mlpackage") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{manifest_path}: unreadable: {error}") from error
    try:
        item = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    except (KeyError, TypeError):
        raise ModelError(f"{manifest_path}: rootModelIdentifier and itemInfoEntries do not name a model") from None
    if not isinstance(item, str):
        raise ModelError(f"{manifest_path}: the model's path is {item!r}, not text")
    return _inside(folder / "Data", item, folder)


def _refuse_special(file: Path) -> None:
    """A pipe or a device would block or never end."""
    if file.exists() and not file.is_file():
        raise ModelError(f"{file}: is not a regular file")


def _inside(root: Path, relative: str, package: Path) -> Path:
    parts = PurePosixPath(relative).parts
    if not parts or ".." in parts or relative.startswith("/") or "\0" in relative:
        raise ModelError(f"{package}: {relative!r} would lead out of the package")
    file = root.joinpath(*parts)
    if not file.is_file():
        raise ModelError(f"{package}: {relative!r} is missing")
    if not file.resolve().is_relative_to(root.resolve()):
        raise ModelError(f"{package}: {relative!r} is a link that leads out of the package")
    return file


def _parse(content: bytes, file: Path) -> Message:
    from google.protobuf.message import DecodeError

    specification = messages("Model_pb2").Model()
    try:
        specification.ParseFromString(content)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: not a Core ML specification: {error}") from error
    if specification.WhichOneof("Type") is None:
        raise ModelError(f"{file}: holds no model (specification version {specification.specificationVersion})")
    return specification
