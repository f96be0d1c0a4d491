"""What a build reads, as it says itself: files, folders whose names count, and what would be read if it existed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from builder.noop import names_in
from builder.util.locations import shown

Stat = tuple[int, int, int]
"""Time of modification in nanoseconds, size, inode."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The inputs of one build."""

    files: frozenset[Path]
    folders: frozenset[Path]
    missing: frozenset[Path]
    recipe: str = ""
    """What is built; empty where the command line could not be composed."""
    variant: str = ""

    def with_those_of(self, other: Inputs) -> Inputs:
        """These and those of another build: one that failed may have read less than it will when it is mended."""
        return Inputs(
            files=self.files | other.files,
            folders=self.folders | other.folders,
            missing=(self.missing | other.missing) - self.files - other.files,
            recipe=self.recipe or other.recipe,
            variant=self.variant or other.variant,
        )

    def places(self) -> frozenset[Path]:
        """Folders to watch: of every file the nearest folder that exists, since editors replace files."""
        wanted = {*self.folders, *(path.parent for path in (*self.files, *self.missing))}
        return frozenset(next(folder for folder in (path, *path.parents) if folder.is_dir()) for path in wanted)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """How inputs look at one time."""

    files: Mapping[Path, Stat | None]
    """None for one that is not there."""
    folders: Mapping[Path, frozenset[str]]

    def changes_since(self, before: Snapshot) -> list[str]:
        """What differs from an earlier look, in words, sorted: `net.py`, `weights.pt (gone)`, `data/7.png (new)`."""
        found = set()
        for path, stat in self.files.items():
            if path in before.files and before.files[path] != stat:
                how = " (gone)" if stat is None else " (new)" if before.files[path] is None else ""
                found.add(f"{shown(path)}{how}")
        for folder, names in self.folders.items():
            earlier = before.folders.get(folder, names)
            for name in names ^ earlier:
                if folder / name not in self.files:
                    found.add(f"{shown(folder / name)} ({'new' if name in names else 'gone'})")
        return sorted(found)


def look(inputs: Inputs) -> Snapshot:
    """Look at inputs now."""
    return Snapshot(
        files={path: stat_of(path) for path in inputs.files | inputs.missing},
        folders={folder: _names(folder) for folder in inputs.folders},
    )


def stat_of(path: Path) -> Stat | None:
    """What changes when a file is written; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _names(folder: Path) -> frozenset[str]:
    """Names in a folder without those that editors make and remove while they save."""
    try:
        return frozenset(name for name in names_in(str(folder)) if not _is_passing(name))
    except OSError:
        return frozenset()


def _is_passing(name: str) -> bool:
    return name.startswith((".", "#")) or name.endswith(("~", ".swp", ".tmp")) or name == "4913"  # vim tries that one


def write_inputs(inputs: Inputs, seen: Snapshot, file: Path) -> None:
    """Tell the process that watches what a build reads, and how it looked before it was read."""
    document = {
        "recipe": inputs.recipe,
        "variant": inputs.variant,
        "files": {str(path): seen.files.get(path) for path in sorted(inputs.files)},
        "missing": sorted(map(str, inputs.missing)),
        "folders": {str(folder): sorted(names) for folder, names in sorted(seen.folders.items())},
    }
    temporary = file.with_name(f"{file.name}.part")
    temporary.write_text(json.dumps(document), encoding="utf-8")
    temporary.replace(file)


def read_inputs(file: Path) -> tuple[Inputs, Snapshot] | None:
    """What `write_inputs` wrote; None where it has not."""
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    files = {Path(name): None if stat is None else _stat(stat) for name, stat in document["files"].items()}
    folders = {Path(name): frozenset(names) for name, names in document["folders"].items()}
    missing = _paths(document["missing"])
    inputs = Inputs(
        files=frozenset(files),
        folders=frozenset(folders),
        missing=missing,
        recipe=document["recipe"],
        variant=document["variant"],
    )
    return inputs, Snapshot(files=files | dict.fromkeys(missing), folders=folders)


def write_modules(modules: Mapping[str, ModuleType], folders: Iterable[Path], file: Path) -> None:
    """Tell the process that watches which installed modules a build has imported: those of files below `folders`."""
    roots = tuple(f"{folder}{os.sep}" for folder in folders)
    names = [
        name
        for name, module in list(modules.items())
        if name != "__main__" and str(getattr(module, "__file__", None) or "").startswith(roots)
    ]
    _beside(file).write_text("\n".join(sorted(names)), encoding="utf-8")


def read_modules(file: Path) -> frozenset[str]:
    """What `write_modules` wrote; nothing where it has not."""
    try:
        return frozenset(_beside(file).read_text(encoding="utf-8").split())
    except FileNotFoundError:
        return frozenset()


def _beside(file: Path) -> Path:
    return file.with_suffix(".modules")


def _stat(values: list[int]) -> Stat:
    modified, size, inode = values
    return modified, size, inode


def _paths(names: Iterable[str]) -> frozenset[Path]:
    return frozenset(Path(name) for name in names)


def absolute(paths: Iterable[Path]) -> frozenset[Path]:
    """Paths as they are compared: absolute, links as they are."""
    return frozenset(Path(os.path.abspath(path)) for path in paths)  # noqa: PTH100 - keeps links, resolves `..`
