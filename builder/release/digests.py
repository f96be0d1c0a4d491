"""The digests of a release: `SHA256SUMS` names every file, and its last line guards the list."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from builder.errors import VerificationError
from builder.util.reading import open_regular, read_regular

MANIFEST = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_EMPTY = "# empty folder: "
"""Begins the line of a folder that is part of the artifact: a program without weights has one."""
_GUARD = re.compile(r"# sha256 of the lines above: ([0-9a-f]{64})\n")


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; raises UnfitFileError for what is not a regular file."""
    with open_regular(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digests_below(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder` except the manifest itself, by relative name."""
    return {name: file_sha256(file) for name, file in _entries(folder) if name != MANIFEST and not name.endswith("/")}


def write_manifest(folder: Path) -> None:
    """Write `SHA256SUMS` as `sha256sum` does, with comments: empty folders, and a last line that guards the others."""
    body = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests_below(folder).items()))
    body += "".join(f"{_EMPTY}{name}\n" for name, _ in _entries(folder) if name.endswith("/"))
    (folder / MANIFEST).write_text(body + _guard(body), encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, str]:
    """The digests that `SHA256SUMS` lists, and empty folders as `NAME/` without one.

    Raises VerificationError when it is missing or was changed.
    """
    path = folder / MANIFEST
    try:
        text = read_regular(path).decode("utf-8")
    except FileNotFoundError as error:
        raise VerificationError(
            f"{folder} is not a release: it has no {MANIFEST}",
            code="B0606",
            hint="`python -m builder release recipe=NAME` makes one, in outputs/releases",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise VerificationError(f"{MANIFEST} was changed: it cannot be read as text: {error}", code="B0607") from error
    body, newline, guard = text.removesuffix("\n").rpartition("\n")
    body += newline
    if guard + "\n" != _guard(body) or not text.endswith("\n") or not _GUARD.fullmatch(guard + "\n"):
        raise VerificationError(f"{MANIFEST} was changed: its last line does not fit the others", code="B0607")
    found: dict[str, str] = {}
    for line in body.splitlines():
        if line.startswith(_EMPTY) and line.endswith("/"):
            found[line.removeprefix(_EMPTY)] = ""
            continue
        match = _LINE.fullmatch(line)
        if match is None or match[2] in found:
            raise VerificationError(f"{MANIFEST} was changed: this line is not one of its own: {line!r}", code="B0607")
        found[match[2]] = match[1]
    return found


def manifest_problems(folder: Path, listed: Mapping[str, str]) -> list[str]:
    """What differs between `folder` and its manifest, each problem naming a file; empty when all is as it was."""
    problems = []
    present = dict(_entries(folder))
    present.pop(MANIFEST, None)
    for name in sorted(listed.keys() | present.keys()):
        if name not in present:
            problems.append(f"{name} is missing")
        elif name not in listed:
            problems.append(f"{name} was added")
        elif name.endswith("/"):
            continue
        elif present[name].is_symlink() or not present[name].is_file():
            problems.append(f"{name} is not a plain file any more")
        elif file_sha256(present[name]) != listed[name]:
            problems.append(f"{name} was changed")
    return problems


FINDERS = ".DS_Store"
"""What Finder writes into every folder that it shows; it is not part of a release."""


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything below `folder` that can hide content: files, links, and as `NAME/` empty folders."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_dir():
            yield from ((name, path),) if path.name != FINDERS else ()
        elif not any(path.iterdir()):
            yield f"{name}/", path


def _guard(body: str) -> str:
    return f"# sha256 of the lines above: {hashlib.sha256(body.encode()).hexdigest()}\n"
