"""Keeps to a folder: what lies behind a link somewhere in it is neither removed nor written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path


def own_files(folder: Path) -> Iterator[Path]:
    """Regular files and links below a folder, sorted by folder; nothing where it is a link, nor what is behind one."""
    if folder.is_symlink():
        return
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            file = Path(below, name)
            if _is_file_or_link(file):
                yield file


def _is_file_or_link(file: Path) -> bool:
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return False
    return stat.S_ISREG(mode) or stat.S_ISLNK(mode)


def refuse_links(folder: Path, root: Path) -> None:
    """Raise OSError where `folder`, or one between it and `root`, is a link: what is written would lie elsewhere."""
    for each in (folder, *folder.parents):
        if each == root:
            return
        if each.is_symlink():
            raise OSError(errno.ELOOP, "it has a link in the place of a folder", str(each))
