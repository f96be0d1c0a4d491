"""From a path to the parts of an `.aimodel`: a folder of the program, its digest and a description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coreml_runtime.coreai.graphs import Program, read_program
from coreml_runtime.errors import ModelError, UnsupportedError
from coreml_runtime.mapping import Buffer, map_file

SUFFIX = ".aimodel"
_PROGRAM, _DIGEST, _METADATA = "main.mlirb", "main.hash", "metadata.json"


@dataclass(frozen=True, kw_only=True)
class Asset:
    """A parsed asset. `content` is the mapped program that constants lie on; `metadata` is empty if there is none."""

    path: Path
    content: Buffer
    program: Program
    metadata: Mapping[str, object]


def is_asset(path: Path) -> bool:
    """Whether a path is meant as one: by its suffix, or because a program lies in it."""
    return path.suffix == SUFFIX or (path.is_dir() and (path / _PROGRAM).exists())


def open_asset(path: str | Path) -> Asset:
    """Read the folder at `path`. ModelError: it is damaged, its program is not the one that its digest was made of."""
    path = Path(path)
    if not path.exists():
        raise ModelError(f"{path}: no such file or folder")
    if not path.is_dir():
        raise ModelError(f"{path}: is not a folder, as an {SUFFIX} is")
    for name in (_PROGRAM, _DIGEST, _METADATA):
        file = path / name
        if file.exists() and not file.is_file():
            raise ModelError(f"{file}: is not a regular file")
    if not (path / _PROGRAM).is_file():
        raise ModelError(f"{path}: no {_PROGRAM}, so this is not an {SUFFIX}")
    metadata = _read_metadata(path / _METADATA)
    content = map_file(path / _PROGRAM)
    _check_digest(path / _DIGEST, content)
    try:
        program = read_program(content)
    except (ModelError, UnsupportedError) as error:
        raise type(error)(f"{path / _PROGRAM}: {error}") from error
    return Asset(path=path, content=content, program=program, metadata=metadata)


def _check_digest(file: Path, content: Buffer) -> None:
    """`main.hash` holds the SHA-256 of the program; Apple's own reader takes a file without it."""
    if not file.exists():
        return
    try:
        expected = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: unreadable: {error}") from error
    found = hashlib.sha256(content).digest()
    if expected != found:
        raise ModelError(
            f"{file}: says {expected[:32].hex()}, the SHA-256 of the program is {found.hex()}: one of them was changed"
        )


def _read_metadata(file: Path) -> Mapping[str, object]:
    if not file.exists():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: unreadable: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{file}: holds {type(found).__name__}, not an object")
    version = found.get("assetVersion")
    if not isinstance(version, str) or version.partition(".")[0] != "2":
        raise UnsupportedError(f"{file}: the asset's version is {version!r}; version 2 is read")
    return found
