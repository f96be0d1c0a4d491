"""Writes a package into a folder, whole or not at all, and never over what a person changed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from builder import __version__
from builder.errors import ConfigurationError
from builder.spec import BuildSpec
from builder.store.digests import file_digest
from builder.swift.golden import FOLDER, make_golden
from builder.swift.interface import Package
from builder.swift.render import swift_files
from builder.util.locations import shown
from builder.util.paths import publish, writing

MANIFEST = ".builder.json"
"""In every package: the digest of each of its files, by which a later run knows that nobody changed one."""
_OF_TOOLS = (".build", ".swiftpm", ".DS_Store", "Package.resolved", "xcuserdata", ".git")
"""What Xcode, SwiftPM and Git put into a package."""


def write_package(package: Package, spec: BuildSpec | None, destination: Path, *, boxes: float | None = None) -> Path:
    """Write the package and return its folder.

    Raises ConfigurationError where something lies there that this command did not write, or that was changed since.
    """
    require_own(destination)
    parent = destination.absolute().parent
    with writing(parent):
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=f".{destination.name}.") as workspace:
            made = Path(workspace) / destination.name
            made.mkdir()
            _fill(made, package, spec, boxes)
            publish(made, destination.absolute())
    return destination


def require_own(destination: Path) -> None:
    """Refuse a place that this command may not write to."""
    if not os.path.lexists(destination):
        return
    if destination.is_dir() and not destination.is_symlink() and not any(destination.iterdir()):
        return
    manifest = destination / MANIFEST
    if destination.is_symlink() or not manifest.is_file():
        raise ConfigurationError(
            f"{shown(destination)} exists, and `package` did not write it",
            code="B0227",
            hint="give another --output, or remove it yourself",
        )
    try:
        digests = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        changed = sorted(set(_digests(destination).items()) ^ set(digests.items()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigurationError(f"{shown(manifest)} is damaged: {error}", code="B0227") from error
    if changed:
        raise ConfigurationError(
            f"{shown(destination / changed[0][0])} was changed or added since `package` wrote the folder",
            code="B0227",
            hint="give another --output, or remove the folder yourself",
        )


def _fill(folder: Path, package: Package, spec: BuildSpec | None, boxes: float | None) -> None:
    golden = make_golden(package, spec, boxes=boxes)
    texts = swift_files(package, engines=f"the runtime of builder {__version__}")
    tests = f"Tests/{package.module}Tests/{FOLDER}"
    texts[f"{tests}/golden.json"] = golden.text
    for name, text in texts.items():
        _place(folder, name).write_text(text, encoding="utf-8")
    for name, data in golden.files.items():
        _place(folder, f"{tests}/{name}").write_bytes(data)
    for artifact in package.artifacts:
        place = _place(folder, f"Sources/{package.module}/Resources/{artifact.file}")
        if artifact.path.is_dir():
            shutil.copytree(artifact.path, place)
        else:
            shutil.copyfile(artifact.path, place)
    manifest = {"builder": __version__, "files": _digests(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _place(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _digests(folder: Path) -> dict[str, str]:
    """The digest of each file by its path; without the manifest and what tools put there."""
    found = {}
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _OF_TOOLS)
        for name in files:
            path = Path(root) / name
            relative = path.relative_to(folder).as_posix()
            if name not in _OF_TOOLS and relative != MANIFEST:
                found[relative] = "link" if path.is_symlink() else file_digest(path)
    return found
