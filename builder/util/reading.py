"""Reads files that others may have written: regular ones alone, of bounded size and depth, so that it ends."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

MOST = 1 << 26
"""Bytes of a document (64 MB); recipes, records and results have thousands."""

MOST_OF_RECIPE = 1 << 20
"""Bytes of a recipe or an option (1 MiB), which a person writes."""

_LARGE, _MOST_HOLLOW = 1 << 28, 16
"""Bytes above which a file is looked at more closely, and the share of it that a file system stores at least."""

_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
"""Half of a surrogate pair, which alone is not a text that can be written anywhere."""


class UnfitFileError(OSError):
    """A file is not a regular one, or too large to be what it should be."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def open_regular(path: Path) -> io.BufferedReader:
    """Open a file for reading; raises UnfitFileError for pipes, devices and folders, before it could block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # a NUL in the name, or half of a surrogate pair
        raise UnfitFileError(path, "is not a name of a file") from error
    if reason := _why_unfit(os.fstat(descriptor)):
        os.close(descriptor)
        raise UnfitFileError(path, reason)
    return os.fdopen(descriptor, "rb")


def _why_unfit(found: os.stat_result) -> str:
    """Why a file would block, never end, or take for ever: one of which next to nothing is stored has any size."""
    if not stat.S_ISREG(found.st_mode):
        return "is not a regular file"
    stored = found.st_blocks * 512
    if found.st_size > _LARGE and stored < found.st_size // _MOST_HOLLOW:
        return f"says that it has {found.st_size} bytes, of which {stored} are stored"
    return ""


def read_regular(path: Path, *, most: int = MOST) -> bytes:
    """The content of a regular file of at most `most` bytes; raises UnfitFileError, and OSError as `open` does."""
    with open_regular(path) as stream:
        content = stream.read(most + 1)
    if len(content) > most:
        raise UnfitFileError(path, f"is larger than {most} bytes")
    return content


def require_regular(path: Path) -> None:
    """Raise UnfitFileError unless a path, and everything below it where it is a folder, is a regular file or a folder.

    Links count as what they lead to; those to folders are not followed, so that this ends.
    """
    found = [path]
    for below, folders, files in os.walk(path):
        found += [Path(below, name) for name in (*folders, *files)]
    for each in found:
        if not each.exists() or each.is_dir():  # a link that leads nowhere cannot be read
            continue
        if reason := _why_unfit(each.stat()):
            raise UnfitFileError(each, reason)


JsonObject: TypeAlias = Mapping[str, Any]
"""An object of a JSON or YAML document: what is in it is checked where it is read."""


def require_contained(artifact: Path) -> None:
    """Raise UnfitFileError unless an artifact is of regular files, and no link and no name in its manifest leads out.

    Whatever copies or reads it then takes nothing but what it is itself.
    """
    require_regular(artifact)
    inside = Path(os.path.realpath(artifact))
    for below, folders, files in os.walk(artifact):
        for each in (Path(below, name) for name in (*folders, *files)):
            if each.is_symlink() and not Path(os.path.realpath(each)).is_relative_to(inside):
                raise UnfitFileError(each, "is a link that leads out of the artifact")
            if each.is_symlink() and each.is_dir():
                raise UnfitFileError(each, "is a link to a folder, which no artifact has: a copy might never end")
    _require_inner_names(artifact / "Manifest.json")


def _require_inner_names(manifest: Path) -> None:
    """Of an `.mlpackage`, whose readers join any path; what is no manifest at all, they say."""
    try:
        document = read_json(manifest)
    except (OSError, ValueError):
        return
    entries = document.get("itemInfoEntries") if isinstance(document, dict) else None
    for entry in entries.values() if isinstance(entries, dict) else ():
        path = entry.get("path") if isinstance(entry, dict) else None
        if isinstance(path, str) and not is_inner_path(path):
            raise UnfitFileError(manifest, "names a file that would lie outside of the artifact")


def read_json(path: Path, *, most: int = MOST) -> Any:
    """The JSON document in a file; raises ValueError where it is damaged, and OSError as `read_regular` does."""
    return parse_json(read_regular(path, most=most))


def parse_json(content: bytes | str) -> Any:
    """The value of a JSON text; raises ValueError for any other, however deep or strange it is."""
    try:
        value = json.loads(content)
        if _HALF.search(content if isinstance(content, bytes) else content.encode("utf-8")):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value


def is_plain_name(name: object) -> bool:
    """Whether a text is the name of a file or folder: no way to another one, and nothing that is not printed."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or not name.isprintable():
        return False
    return len(name.encode("utf-8", "replace")) <= 255  # halves of surrogate pairs are not printable


def is_inner_path(name: object) -> bool:
    """Whether a text is a relative path of plain names, so that it stays inside the folder that it is joined to."""
    return isinstance(name, str) and len(name) < 4096 and all(is_plain_name(part) for part in name.split("/"))
