"""Digests of files and folders, remembered by their stat so that an untouched file is read once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from builder import noop
from builder.noop import INCIDENTAL
from builder.util.reading import open_regular

Value = TypeVar("Value")


def file_digest(path: Path) -> str:
    """`sha256:` over a file's content; raises UnfitFileError where that would never end."""
    with open_regular(path) as stream:
        return f"sha256:{noop.stream_digest(stream)}"


def bytes_digest(data: bytes) -> str:
    """`sha256:` over `data`."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(value: object) -> str:
    """`sha256:` over the canonical JSON of plain values."""
    return bytes_digest(canonical(value).encode())


def canonical(value: object) -> str:
    """Return JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def tree_digest(files: Mapping[str, str]) -> str:
    """The digest of a folder, from those of its files by relative name."""
    return digest_of(dict(files))


def files_below(path: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a folder by its relative name, sorted; a file is its own only one, without a name.

    What Python and Finder write into folders (`builder.noop.INCIDENTAL`) is left out.
    """
    if not path.is_dir():
        yield "", path
        return
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not set(name.parts) & set(INCIDENTAL):
            yield name.as_posix(), file


def empty_folders(path: Path) -> Iterator[str]:
    """Every folder below a folder that has nothing in it, by its relative name, sorted.

    No digest of an artifact covers them; a package without weights has one all the same, which its manifest names.
    """
    for folder in sorted(path.rglob("*")):
        if folder.is_dir() and not any(folder.iterdir()):
            yield folder.relative_to(path).as_posix()


def artifact_digest(path: Path) -> str:
    """`sha256:` over the names and digests of an artifact's files, sorted; of a single file over its content."""
    return digest_of_files({name: file_digest(file) for name, file in files_below(path)})


def digest_of_files(files: Mapping[str, str]) -> str:
    """The digest of an artifact, from those of its files; an `.mlmodel` is one file, whatever its name."""
    if len(files) == 1:
        return next(iter(files.values()))
    lines = [f"{digest.removeprefix('sha256:')}  {name}\n" for name, digest in sorted(files.items())]
    return bytes_digest("".join(lines).encode())


Stat = tuple[int, int, int, int]


def stat_of(path: Path) -> Stat:
    """What changes when a file does: times of modification and change in nanoseconds, size, inode."""
    found = path.stat()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


class StatCache:
    """What was once worked out from files (digests, imports), by kind and path, as long as their stat stays.

    It lies in one JSON file, to which builds side by side add what each has found; losing it costs time only.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = self._read()
        self._fresh: dict[str, Any] = {}
        self._now: dict[str, Any] = {}

    def _read(self) -> dict[str, object]:
        try:
            loaded = noop.read_manifest(str(self._path))
        except (OSError, ValueError, RecursionError):
            return {}
        return loaded if isinstance(loaded, dict) else {}

    def for_now(self, name: str, work: Callable[[], Value]) -> Value:
        """Return `work()`, worked out once until `forget`: nothing is running meanwhile."""
        if name not in self._now:
            self._now[name] = work()
        value: Value = self._now[name]
        return value

    def forget(self) -> None:
        """Look at everything anew from now on, since time has passed."""
        self._now.clear()

    def get(self, kind: str, path: Path, work: Any) -> Any:
        """Return `work(path)`, plain JSON, from memory where `path` has not changed."""
        name = f"{kind} {path.absolute()}"
        before = stat_of(path)
        known = self._known.get(name)
        if isinstance(known, list) and len(known) == 2 and known[0] == list(before):
            return known[1]
        value = work(path)
        after = stat_of(path)
        if before == after and time.time_ns() - max(after[:2]) > noop.YOUNG:
            self._known[name] = self._fresh[name] = [list(after), value]
        return value

    def under(self, name: str, signature: str, *, last: int) -> dict[str, Any]:
        """Return a dictionary that is remembered under `name` as long as `signature` stays: a digest of files' stats.

        `last` is when one of these files changed last, in nanoseconds.
        """
        known = self._known.get(name)
        if isinstance(known, dict) and known.get("signature") == signature:
            return known
        fresh: dict[str, object] = {"signature": signature}
        if time.time_ns() - last > noop.YOUNG:
            self._known[name] = self._fresh[name] = fresh
        return fresh

    def number(self, name: str) -> float | None:
        """A number that was noted under `name`; None where there is none."""
        known = self._known.get(name)
        return float(known) if isinstance(known, int | float) else None

    def note_number(self, name: str, value: float) -> None:
        """Note a number, instead of any before: for what may be out of date, such as an estimate."""
        self._known[name] = self._fresh[name] = value

    def entry(self, path: str) -> list[Any]:
        """`noop.file_entry(path)`, from memory where the file has not changed."""
        absolute = path if path.startswith("/") else str(Path(path).absolute())
        name, stat = f"digest {absolute}", noop.stat_of(path)
        known = self._known.get(name)
        if isinstance(known, list) and len(known) == 2 and known[0] == stat:
            return [path, stat, str(known[1]).removeprefix("sha256:")]
        found = noop.digest(path)
        if stat == noop.stat_of(path) and time.time_ns() - max(stat[:2]) > noop.YOUNG:
            self._known[name] = self._fresh[name] = [stat, f"sha256:{found}"]
        return [path, stat, found]

    def digest(self, path: Path) -> str:
        """The digest of a file, or of a folder with all its files."""
        if path.is_dir():
            return tree_digest({name: self.digest(file) for name, file in files_below(path)})
        return str(self.get("digest", path, file_digest))

    def save(self) -> None:
        """Add what is new, atomically; where that is impossible the next build works it out again."""
        if self._fresh:
            noop.write_manifest(str(self._path), {**self._read(), **self._fresh})
            self._fresh = {}

    def prune(self) -> int:
        """Forget files that are gone; returns how many."""
        known = self._read()
        stays = {
            name: value
            for name, value in known.items()
            if not isinstance(value, list) or _is_there(name.partition(" ")[2])
        }
        if len(stays) < len(known):
            noop.write_manifest(str(self._path), stays)
        return len(known) - len(stays)


def _is_there(name: str) -> bool:
    try:
        return Path(name).exists()
    except (OSError, ValueError):
        return False
