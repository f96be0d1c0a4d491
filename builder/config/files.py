"""Files that a recipe names: sought beside the YAML that names them, then in the working directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path as FilePath
from typing import Literal, get_args, get_origin

from pydantic import BaseModel

from builder.config.documents import Path
from builder.config.layers import Tree
from builder.config.schema import Type, field_type, fields, type_of
from builder.errors import Diagnostic
from builder.spec import BuildSpec
from builder.spec.base import IsFile
from builder.util.locations import shown


def named_files(spec: BuildSpec) -> Iterator[tuple[Path, str]]:
    """Yield the key and text of every value in `spec` that names a file."""
    yield from _inside(spec, ())


def _inside(part: BaseModel, path: Path) -> Iterator[tuple[Path, str]]:
    for (name, field), attribute in zip(fields(type(part)).items(), type(part).model_fields, strict=True):
        yield from _value(getattr(part, attribute), field_type(field), (*path, name))


def _value(value: object, here: Type, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, BaseModel):
        yield from _inside(value, path)
    elif isinstance(value, str):
        if _is_file(value, here):
            yield path, value
    elif isinstance(value, dict | list):
        for member in here.members:
            if get_origin(member.annotation) is type(value):
                inner = type_of(get_args(member.annotation)[-1])
                items = value.items() if isinstance(value, dict) else enumerate(value)
                for key, child in items:
                    yield from _value(child, inner, (*path, str(key)))


def _is_file(value: str, here: Type) -> bool:
    """Whether a text in a place of type `here` names a file: it does not where it is one of the allowed words."""
    literals = [member.annotation for member in here.members if get_origin(member.annotation) is Literal]
    words = [word for literal in literals for word in get_args(literal)]
    marks = [here.metadata, *(member.metadata for member in here.members)]
    return value not in words and any(isinstance(mark, IsFile) for metadata in marks for mark in metadata)


def find_files(spec: BuildSpec, tree: Tree) -> tuple[dict[Path, str], list[Diagnostic]]:
    """Return the existing path for every file that `spec` names, by key, and a finding for each that is missing."""
    found: dict[Path, str] = {}
    findings = []
    for path, text in named_files(spec):
        origin = tree.origin(path)
        folders = [FilePath()]
        if origin is not None and origin.value.file is not None:
            folders.insert(0, origin.value.file.parent)
        candidates = list(dict.fromkeys(_plain(folder / FilePath(text).expanduser()) for folder in folders))
        file = next((candidate for candidate in candidates if candidate.exists()), None)
        if file is not None:
            found[path] = shown(file)
        else:
            tried = " and ".join(shown(candidate) for candidate in candidates)
            findings.append(
                Diagnostic(
                    code="B0205",
                    path=path,
                    message=f"there is no such file: {text}",
                    span=origin.value if origin else None,
                    hint="an address is not a file: download it first" if "://" in text else f"sought as {tried}",
                )
            )
    return found, findings


def _plain(path: FilePath) -> FilePath:
    """The absolute path, without `..` where that leads to the same file (behind a symbolic link it may not)."""
    absolute = path.absolute()
    plain = FilePath(os.path.normpath(absolute))
    same = not absolute.exists() or (plain.exists() and plain.samefile(absolute))
    return plain if same else absolute
