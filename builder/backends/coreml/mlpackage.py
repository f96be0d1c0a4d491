"""The layout of an `.mlpackage`: a manifest, a model specification and a folder of weights."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Callable
from pathlib import Path

AUTHOR = "com.apple.CoreML"
SPECIFICATION = f"{AUTHOR}/model.mlmodel"
WEIGHTS = f"{AUTHOR}/weights"


def write_package(
    path: Path, specification: bytes, weights: Path | None, *, place: Callable[[Path, Path], object] = shutil.move
) -> None:
    """Write an `.mlpackage` at `path`, which must not exist; `place` brings the folder `weights` into it."""
    data = path / "Data"
    (data / AUTHOR).mkdir(parents=True)
    (data / SPECIFICATION).write_bytes(specification)
    if weights is not None:
        place(weights, data / WEIGHTS)
    (path / "Manifest.json").write_text(manifest(weights=weights is not None), encoding="utf-8")


def link_folder(source: Path, target: Path) -> None:
    """Link the files of a folder to a new one, or copy them where the file system cannot link."""
    target.mkdir()
    for file in sorted(source.iterdir()):
        _link_or_copy(str(file), str(target / file.name))


class KeptPackage:
    """An `.mlpackage` beside another one, whose files it shares as long as that one lasts; it goes with its object."""

    def __init__(self, package: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix="builder-kept-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.path = folder / package.name
        shutil.copytree(package, self.path, copy_function=_link_or_copy)


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def manifest(*, weights: bool) -> str:
    """The manifest, formatted as coremltools' loader rewrites it, identifiers derived from the paths.

    Loading a package rewrites a manifest that is formatted otherwise, and with it the package's digest.
    """
    items = {SPECIFICATION: ("Specification", "model.mlmodel")}
    if weights:
        items[WEIGHTS] = ("Weights", "weights")
    content = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {
            _identifier(path): {
                "author": AUTHOR,
                "description": f"CoreML Model {kind}",
                "name": name,
                "path": path,
            }
            for path, (kind, name) in items.items()
        },
        "rootModelIdentifier": _identifier(SPECIFICATION),
    }
    return json.dumps(content, indent=4, sort_keys=True) + "\n"


def _identifier(path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path))
