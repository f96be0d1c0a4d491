"""What garbage collection keeps besides recent results: all that leads to an artifact which a lock or release names.

The store serves many projects, so `lock` and `release` leave in it where their files lie, as Nix does with its roots.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.store.actions import ActionResult, Store
from builder.store.objects import atomic_file
from builder.util.links import own_files
from builder.util.reading import parse_json, read_regular

AWAY = 6 * 7 * 86400.0
"""Seconds for which a lock may be away, on another branch or a disk that is not mounted, and counts all the same."""

_NOTE = re.compile(r"[0-9a-f]{64}")
"""The names of notes."""

_JUDGED = {"verify": "after seal", "method": "after prepare"}
"""Results that nothing comes after, with the input that says what they belong to."""


@dataclass(frozen=True, kw_only=True)
class Root:
    """A lock that the store knows of."""

    file: Path
    artifacts: frozenset[str]
    """The digests of the artifacts that it named when it was last seen."""
    note: Path
    is_there: bool
    is_forgotten: bool
    """Whether it was away for so long that what it named need not stay any more."""


def remember_root(store: Path, file: Path, artifacts: Iterable[str]) -> None:
    """Note in a store that a lock at `file` names artifacts; a store that cannot be written is not collected either."""
    place = str(file.absolute())
    text = json.dumps({"file": place, "artifacts": sorted(artifacts)})
    with contextlib.suppress(OSError), atomic_file(_note(store, place), store / "tmp") as stream:
        stream.write(text.encode())


def remembered_roots(store: Path) -> list[Root]:
    """All locks that were noted, those that are away included; a note that nobody can read names nothing."""
    notes = (note for note in own_files(store / "roots") if _NOTE.fullmatch(note.name))
    return [_read_note(note) for note in notes]


def forget_root(root: Root) -> None:
    """Remove the note of a lock."""
    with contextlib.suppress(OSError):
        root.note.unlink()


def _read_note(note: Path) -> Root:
    file, artifacts, is_there = note, frozenset[str](), False
    try:
        age = time.time() - note.stat().st_mtime
        content = parse_json(read_regular(note))
        file = Path(str(content["file"]))
        artifacts = frozenset(str(digest) for digest in content["artifacts"])
        is_there = file.is_file()
    except FileNotFoundError:
        age = 0.0  # another collection forgot it just now
    except (OSError, ValueError, TypeError, KeyError):
        pass
    return Root(file=file, artifacts=artifacts, note=note, is_there=is_there, is_forgotten=not is_there and age > AWAY)


def leading_to(artifacts: Iterable[str], store: Store) -> Iterator[Path]:
    """Yield every result from which one of these artifacts (by digest) was made, and every verdict on one."""
    known: dict[tuple[str, str], list[tuple[Path, ActionResult]]] = {}
    judged: dict[tuple[str, str], list[Path]] = {}
    for path, action in store.actions(foreign=True):
        known.setdefault((action.stage, action.output), []).append((path, action))
        if action.stage in _JUDGED:
            belongs_to = str(action.inputs.get(_JUDGED[action.stage]))
            judged.setdefault((_JUDGED[action.stage], belongs_to), []).append(path)
    waiting = [("seal", digest) for digest in artifacts]
    reached: set[tuple[str, str]] = set()
    while waiting:
        stage, output = waiting.pop()
        if (stage, output) in reached:
            continue
        reached.add((stage, output))
        yield from judged.get((f"after {stage}", output), ())
        for path, action in known.get((stage, output), ()):
            yield path
            before = ((name.removeprefix("after "), value) for name, value in action.inputs.items() if "after " in name)
            waiting += [(name, str(value)) for name, value in before]


def _note(store: Path, place: str) -> Path:
    return store / "roots" / hashlib.sha256(place.encode()).hexdigest()
