"""What garbage collection keeps besides recent results: all that leads to an artifact which a lock or release names.

The store serves many projects, so `lock` and `release` leave in it where their files lie, as Nix does with its roots.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from builder.store.actions import Action, Store
from builder.store.objects import atomic_file

_JUDGED = {"verify": "after seal", "method": "after prepare"}
"""Results that nothing comes after, with the input that says what they belong to."""


def remember_root(store: Path, file: Path) -> None:
    """Note in a store that a lock lies at `file`; a store that cannot be written is not collected either."""
    place = str(file.absolute())
    with contextlib.suppress(OSError), atomic_file(_note(store, place), store / "tmp") as stream:
        stream.write(place.encode())


def remembered_roots(store: Path) -> list[Path]:
    """Where locks lie; what is gone is forgotten."""
    found = []
    for note in sorted((store / "roots").glob("*")):
        file = Path(note.read_text(encoding="utf-8"))
        if file.exists():
            found.append(file)
        else:
            with contextlib.suppress(OSError):
                note.unlink()
    return found


def leading_to(artifacts: Iterable[str], store: Store) -> Iterator[Path]:
    """Yield every result from which one of these artifacts (by digest) was made, and every verdict on one."""
    known: dict[tuple[str, str], list[tuple[Path, Action]]] = {}
    judged: dict[tuple[str, str], list[Path]] = {}
    for path, action in store.actions():
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
