"""One folder for all temporary files of a command, which its parent removes, whatever ended the command.

Where the parent was killed as well, a later command removes it: the parent holds a lock on the folder while it lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOM = re.compile(r"builder-[a-z0-9_]{8}")
"""What such a folder is called; short, since names of sockets in it may have no more than 104 characters."""
_NEW = ".builder-new-"
"""How a folder is called until its lock is held."""
_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class Room:
    """The folder, and the descriptor that has its lock."""

    folder: Path
    descriptor: int

    def enter(self) -> None:
        """Let what this process makes with `tempfile` lie in the folder; the lock is its parent's."""
        os.close(self.descriptor)
        tempfile.tempdir = str(self.folder)


def temporary_place() -> Path:
    """Where temporary files lie on this machine, outside of the folder of any command."""
    place = Path(tempfile.gettempdir())
    return place.parent if _ROOM.fullmatch(place.name) else place


@contextmanager
def temporary_room() -> Iterator[Room | None]:
    """Make the folder, and remove it with all that is in it; None where none can be made, which the command reports."""
    try:
        _sweep(Path(tempfile.gettempdir()))
        room = _made()
    except OSError:
        yield None
        return
    try:
        yield room
    finally:
        shutil.rmtree(room.folder, ignore_errors=True)
        os.close(room.descriptor)


def _made() -> Room:
    """Nobody sees a folder under its name before it is locked."""
    new = Path(tempfile.mkdtemp(prefix=_NEW))
    descriptor = _locked(new)
    folder = new.with_name(f"builder-{new.name.removeprefix(_NEW)}")
    if descriptor is None:
        new.rmdir()
        raise OSError("there are no locks here")
    new.rename(folder)
    return Room(folder=folder, descriptor=descriptor)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder; None where another process has it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(place: Path) -> None:
    """Remove what commands of this user left that were killed with their parents."""
    with os.scandir(place) as entries:
        names = [entry.name for entry in entries if _ROOM.fullmatch(entry.name) or entry.name.startswith(_NEW)]
    for name in names:
        with contextlib.suppress(OSError):  # another command removes it at the same time
            _remove_left(place / name)


def _remove_left(folder: Path) -> None:
    found = folder.lstat()
    is_young = folder.name.startswith(_NEW) and time.time() - found.st_mtime < _HOUR
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or is_young:
        return
    descriptor = _locked(folder)
    if descriptor is not None:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)
