"""Which files a process reads: opened ones by an audit hook, and the sources of every module that it imported."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from builder.store.code import is_own


class Watch:
    """From its making on, remembers what this process opens for reading by way of Python."""

    def __init__(self) -> None:
        self._opened: set[str] = set()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str | bytes):
            return
        mode, flags = arguments[1], arguments[2]
        if isinstance(mode, str) and any(letter in mode for letter in "wax"):
            return
        if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_CREAT):
            return
        self._opened.add(os.fsdecode(os.path.abspath(arguments[0])))  # noqa: PTH100 - a hook must be quick

    def files(self) -> list[Path]:
        """Every file read so far that still exists, sorted, with links resolved."""
        names = self._opened | {str(path) for path in _module_files()}
        return sorted({Path(name).resolve() for name in names if Path(name).is_file()})


def _module_files() -> Iterator[Path]:
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            yield Path(file).absolute()


def is_installed(path: Path) -> bool:
    """Whether a file belongs to Python, to an installed package or to builder, whose versions are in the lock."""
    if "site-packages" in path.parts or "dist-packages" in path.parts or is_own(path):
        return True
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib")} | {sys.prefix}
    return any(path.is_relative_to(Path(folder).resolve()) for folder in folders)


def project_files(files: list[Path], root: Path, *, besides: list[Path]) -> list[Path]:
    """Those of `files` that are the project's own: below `root`, not of git, of caches, or below `besides`."""
    hidden = [root / ".git", *besides]
    return [
        file
        for file in files
        if file.is_relative_to(root)
        and not is_installed(file)
        and "__pycache__" not in file.parts
        and not any(file.is_relative_to(folder) for folder in hidden)
    ]


def foreign_code(files: list[Path], root: Path) -> list[Path]:
    """Python files that lie neither in the project nor in anything installed."""
    return [file for file in files if file.suffix == ".py" and not file.is_relative_to(root) and not is_installed(file)]
