"""Garbage collection: removes results not used for long, or that make the store too large, and what only they need.

Roots are the results that were used lately, and those that an artifact in a lock or release was made from. Whatever a
build that runs now has written and not yet referred to is young, and stays.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from builder.store.actions import ActionResult, Store
from builder.store.objects import CorruptError
from builder.store.roots import leading_to
from builder.util.links import own_files

_OWN = re.compile(r"actions/[\w-]+/\w+\.json|cas/sha256/[0-9a-f]{2}/[0-9a-f]{64}|tmp/(?:[0-9a-f]{32}|tmp\w{8})")
"""The files of a store by their names; no other is ever removed."""

GRACE = 86400.0
"""Seconds for which nothing new is removed: a build may be about to refer to it."""

NOTES = ("noop", "composed", "swift", "worst", "unsent")
"""Folders next to the store: what unchanged builds depend on, composed recipes, Swift interfaces, the worst inputs that
were found, and marks of what is still to be sent to a remote store."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What was removed, or would be."""

    files: tuple[Path, ...]
    bytes: int
    kept_bytes: int
    rooted: int
    """How many results stay because a lock or release needs them, however old and large they are."""


def collect(store: Store, *, max_age: float, max_bytes: int, dry_run: bool, artifacts: Iterable[str] = ()) -> Collected:
    """Remove results last used more than `max_age` seconds ago, then the oldest until `max_bytes` are left.

    What leads to one of `artifacts`, given by their digests, stays.
    """
    now = time.time()
    kept: set[Path] = set()
    total = 0
    rooted = set(leading_to(artifacts, store))
    used = [(path, action, _changed(path)) for path, action in store.actions(foreign=True)]
    roots_and_newest_first = sorted(used, key=lambda one: (one[0] not in rooted, -one[2]))
    for path, action, last in roots_and_newest_first:
        needed = {path, *_objects(store, action)}
        more = sum(_size(file) for file in needed - kept)
        recent = now - last <= max_age
        if path in rooted or (recent and (total + more <= max_bytes or now - last < GRACE)):
            kept |= needed
            total += more
    removed = [file for file in _files(store) if file not in kept and now - _changed(file) > GRACE]
    size = sum(_size(file) for file in removed)
    if not dry_run:
        # Results first: none is ever left that refers to an object which is gone.
        for file in sorted(removed, key=lambda f: f.suffix != ".json"):
            with contextlib.suppress(FileNotFoundError):
                file.unlink()
        store.tidy()
    return Collected(files=tuple(removed), bytes=size, kept_bytes=total, rooted=len(rooted))


def collect_notes(cache: Path, *, max_age: float, dry_run: bool) -> tuple[Path, ...]:
    """Remove notes last written more than `max_age` seconds ago; a build that misses one makes it again."""
    before = time.time() - max(max_age, GRACE)
    folders = [cache / name for name in NOTES if not (cache / name).is_symlink()]
    old = [file for folder in folders for file in sorted(folder.glob("*")) if _changed(file) < before]
    for file in old if not dry_run else ():
        with contextlib.suppress(OSError):
            file.unlink()
    return tuple(old)


def _objects(store: Store, action: ActionResult) -> set[Path]:
    found = set()
    for name, digest in action.objects.items():
        found.add(store.objects.path(digest))
        if name.endswith("/"):
            with contextlib.suppress(CorruptError):
                files = store.objects.read_manifest(digest).values()
                found |= {store.objects.path(file) for file in files if file}  # an empty folder has none
    return found


def _files(store: Store) -> list[Path]:
    """What this store has written: of its names, and not behind a link, for others may write to it."""
    folders = (store.root / name for name in ("actions", "cas", "tmp"))
    files = (file for folder in folders for file in own_files(folder))
    return [file for file in files if _OWN.fullmatch(file.relative_to(store.root).as_posix())]


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except FileNotFoundError:
        return 0


def _changed(file: Path) -> float:
    """When a file was written or last used; a clock that was set back makes it young."""
    try:
        return file.lstat().st_mtime
    except FileNotFoundError:
        return time.time()
