"""A lock between processes on one machine: one holder at a time, and no file left behind."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_PATIENCE = 2.0
"""Seconds for which a folder that is gone again may be due to other processes that tidy up."""


@contextmanager
def exclusive(path: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock at `path` until the block ends; `on_wait` is called once if another process has it.

    The file is removed in the end. Whoever waited on the removed file notices that its path leads elsewhere and
    tries again, so two holders are impossible.
    """
    descriptor = _acquire(path, on_wait=on_wait, block=True)
    assert descriptor is not None  # blocking returns only with the lock
    try:
        yield
    finally:
        _release(path, descriptor)


@contextmanager
def exclusive_or_none(path: Path) -> Iterator[bool]:
    """Try to hold the lock at `path`: yields whether it is held, without waiting."""
    descriptor = _acquire(path, on_wait=None, block=False)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            _release(path, descriptor)


def _acquire(path: Path, *, on_wait: Callable[[], None] | None, block: bool) -> int | None:
    while True:
        descriptor = _open(path)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not block:
                    os.close(descriptor)
                    return None
                if on_wait is not None:
                    on_wait()
                    on_wait = None
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _leads_to(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: Path) -> int:
    """Make the file and its folder; raises OSError where none can be made, as below a link that leads nowhere."""
    patient_until = time.monotonic() + _PATIENCE
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except FileNotFoundError:
            pass  # another process tidied the folder away just then
        except FileExistsError:
            if _is_something_else(path.parent):
                raise
            # mkdir met the folder, and it was gone when pathlib looked whether it is one
        if time.monotonic() > patient_until:
            raise PermissionError(errno.EACCES, "no folder can be made there", str(path.parent))


def _is_something_else(folder: Path) -> bool:
    """Whether there is something at `folder` that is not a folder: one look, since it may come and go meanwhile."""
    try:
        return not stat.S_ISDIR(folder.stat().st_mode)
    except FileNotFoundError:
        return False


def _leads_to(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _release(path: Path, descriptor: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    os.close(descriptor)
