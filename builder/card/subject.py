"""The build that a card is about: published, up to date, and with its whole record."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from builder.artifacts.devices import read_measurements
from builder.artifacts.record import BuildRecord
from builder.artifacts.stages import BuildRequest
from builder.engine.pipeline import recorded
from builder.progress import Silent
from builder.release.digests import MANIFEST
from builder.reports import build_json, html
from builder.store.digests import artifact_digest
from builder.util import paths
from builder.util.text import visible_json


def record_of(request: BuildRequest, artifact: Path, outputs: Path) -> BuildRecord:
    """The record of the published artifact, from the store: nothing runs again, and nothing is published."""
    with tempfile.TemporaryDirectory(prefix="builder-card-") as folder:
        found = recorded(request, Path(folder), Silent())
    return replace(
        found,
        artifact=replace(found.artifact, path=artifact),
        devices=read_measurements(outputs, found.artifact.digest),
    )


def release_of(record: BuildRecord, outputs: Path) -> Path | None:
    """The release of these very bytes, where there is one."""
    folder = outputs / "releases" / record.request.recipe / record.variant
    artifact = folder / record.artifact.path.name
    if not (folder / MANIFEST).is_file() or not artifact.exists():
        return None
    return folder if artifact_digest(artifact) == record.artifact.digest else None


def files_of(record: BuildRecord, card: str, release: Path | None) -> dict[str, Path | bytes]:
    """What is pushed, by its path in the repository."""
    artifact = record.artifact.path
    found: dict[str, Path | bytes] = {"README.md": card.encode()}
    found |= dict(_below(artifact, artifact.name)) if artifact.is_dir() else {artifact.name: artifact}
    for name in (build_json.FILE_NAME, html.FILE_NAME):
        if (file := artifact.with_name(name)).is_file():
            found[name] = file
    return found | (dict(_below(release, "release")) if release is not None else {})


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            yield f"{name}/{file.relative_to(folder).as_posix()}", file


def note_publication(record: BuildRecord, outputs: Path, publication: Mapping[str, object]) -> Path:
    """Write into the build's `build.json` where it was published, the last first; returns the file."""
    file = record.artifact.path.with_name(build_json.FILE_NAME)
    with paths.held(outputs, record.request.recipe, record.variant):
        document = json.loads(file.read_text(encoding="utf-8"))
        document["published"] = [dict(publication), *document.get("published", [])]
        text = visible_json(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))
        paths.write_atomically(file, text + "\n")
    return file
