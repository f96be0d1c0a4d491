"""Strategies of damage: to bytes, to JSON, to the parts of ZIP archives, and to folders."""

from __future__ import annotations

import copy
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

NUMBERS = st.sampled_from([0, 1, -1, 2, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63), 10**30, 1e308, 0.5])
TEXTS = st.sampled_from(
    [
        "",
        " ",
        "..",
        "../../x",
        "/etc/passwd",
        "/dev/zero",
        "a\0b",
        "a\nb",
        "\x1b[2J\x1b]0;x\x07",
        "\u202ex",
        "x" * 300,
        "=1+1",
        "<script>alert(1)</script>",
        "__import__('os')",
        "${oc.env:HOME}",
        "%s%n",
        "\ud800",
        "é",
        "nan",
        "@x",
        "-x",
        "~",
        "null",
        "x" * 70_000,
        "::",
        "{}",
        "[" * 300,
        "a.b.c",
    ]
) | st.text(max_size=12)
SCALARS = st.none() | st.booleans() | NUMBERS | st.floats() | st.integers() | TEXTS
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
PIECES = st.sampled_from(
    [b"", b"\0" * 8, b"\xff" * 8, b"\x80" * 10, b"PK\x03\x04", b"[" * 2000, b"{" * 2000, b"%n"]
) | (st.binary(max_size=16))


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """`content` with a few bits flipped, spans removed, repeated or replaced, or cut."""
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        at = draw(st.integers(0, len(data) - 1))
        size = min(len(data) - at, draw(st.sampled_from([1, 1, 2, 4, 8, 64, 1024])))
        match draw(st.integers(0, 6)):
            case 0 | 1:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 2:
                del data[at : at + size]
            case 3:
                data[at:at] = data[at : at + size]
            case 4:
                data[at : at + size] = draw(PIECES)
            case 5:
                data[at : at + size] = b"\xff" * size
            case 6:
                del data[at:]
    return bytes(data)


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a document of mappings and lists."""
    yield at
    for name, child in (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    ):
        yield from places(child, (*at, name))


def replaced(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with another value at a place."""
    if not place:
        return value
    found = parent = copy.deepcopy(document)
    for name in place[:-1]:
        parent = parent[name]
    parent[place[-1]] = value
    return found


@st.composite
def changed(draw: st.DrawFn, document: Any) -> Any:
    """A document in which one or two values are others, gone or repeated at another place."""
    for _ in range(draw(st.integers(1, 2))):
        known = list(places(document))
        place = draw(st.sampled_from(known))
        value = draw(TREES)
        if draw(st.integers(0, 3)) == 0:
            value = document
            for name in draw(st.sampled_from(known)):
                value = value[name]
            value = copy.deepcopy(value)
        document = replaced(document, place, value)
    return document


def as_json(value: Any) -> bytes:
    """A document as JSON, halves of surrogate pairs included."""
    return json.dumps(value).encode()


def packed(parts: dict[str, bytes], prefix: str = "m/") -> bytes:
    """A ZIP archive of stored parts, as torch writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(f"{prefix}{name}"), content)
    return stream.getvalue()


def parts_of(archive: bytes) -> dict[str, bytes]:
    """The parts of an archive by their names without the first folder."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name.partition("/")[2]: opened.read(name) for name in opened.namelist()}


@st.composite
def damaged_archive(draw: st.DrawFn, content: bytes) -> bytes:
    """An archive with a part damaged, changed (JSON), removed, renamed, added or exchanged; or its bytes damaged."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged_bytes(content))
    parts = parts_of(content)
    name = draw(st.sampled_from(sorted(parts)))
    match draw(st.integers(0, 6)):
        case 0 | 1 | 2 if name.endswith(".json"):
            parts[name] = as_json(draw(changed(json.loads(parts[name]))))
        case 0 | 1 | 2 | 3:
            parts[name] = draw(damaged_bytes(parts[name]))
        case 4:
            parts[draw(TEXTS).encode("utf-8", "replace").decode()[:300]] = parts.pop(name)
        case 5:
            parts[name] = parts[draw(st.sampled_from(sorted(parts)))]
        case _:
            del parts[name]
    return packed(parts)


def _link(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _out(path: Path) -> None:
    path.symlink_to("/proc/version")  # regular, and nobody can write it


def _loop(path: Path) -> None:
    path.symlink_to(path.parent)


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


UNFIT: dict[str, Callable[[Path], Any]] = {
    "pipe": os.mkfifo,
    "device": _link,
    "folder": Path.mkdir,
    "link out": _out,
    "loop": _loop,
    "sparse": _sparse,
}


@st.composite
def damaged_folder(
    draw: st.DrawFn, files: dict[str, bytes], only: Sequence[str] | None = None
) -> Callable[[Path], None]:
    """What writes the files of a folder, some of which (`only` these) are damaged, gone, exchanged or no files."""
    changes: dict[str, bytes | str | None] = {}
    for name in draw(st.lists(st.sampled_from(sorted(only or files)), min_size=1, max_size=2)):
        match draw(st.integers(0, 7)):
            case 0:
                changes[name] = None
            case 1:
                changes[name] = draw(st.sampled_from(sorted(UNFIT)))
            case 2:
                changes[name] = files[draw(st.sampled_from(sorted(files)))]
            case 3 | 4 if files[name].startswith(b"{") and name.endswith(".json"):
                changes[name] = as_json(draw(changed(json.loads(files[name]))))
            case _:
                changes[name] = draw(damaged_bytes(files[name]))
    more = draw(st.dictionaries(st.sampled_from(["x", "Data/x", "a/b"]), st.sampled_from(sorted(UNFIT)), max_size=1))

    def write(folder: Path) -> None:
        for name, content in {**files, **more, **changes}.items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                place.write_bytes(content)
            elif content is not None and not os.path.lexists(place):
                UNFIT[content](place)

    return write


def files_in(folder: Path) -> dict[str, bytes]:
    """The files of a folder by relative name."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
