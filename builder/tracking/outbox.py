"""What waits to be sent to MLflow: one JSON file a build, and beside it a folder with the files of that very build.

Why copies and hard links rather than a path: docs/decisions/0021-outbox.md.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import yaml
from pydantic import TypeAdapter, ValidationError

from builder.artifacts.record import BuildRecord
from builder.reports.plain import plain
from builder.spec.tracking import MlflowTracking
from builder.tracking.run import CONFIG_FILE, TrackedRun, tracked_run
from builder.util import paths
from builder.util.reading import read_json, read_regular
from builder.util.redact import redacted_values

SCHEMA = 1
ARTIFACT = "artifact"
"""The folder of an entry, and of the run, in which the artifact lies."""
EXAMPLE = "example"
"""The folder of an entry with values for the inputs of the logged model: a PNG or `.npy` file for each."""
_LINK_FROM = 1_000_000
"""Bytes from which a file is linked and not copied."""
_FORGOTTEN_AFTER = 3600.0
"""Seconds after which files without an entry belong to a build that was killed while it wrote them."""


@dataclass(frozen=True, kw_only=True)
class SentFile:
    """A file of an entry as it was when the build ended; a later change in place shows by size or time."""

    path: str
    bytes: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One record in the outbox."""

    identifier: str
    uri: str | None
    """The tracking server that the build was meant for; None is the default store of its outputs."""
    experiment: str
    run: TrackedRun
    files: tuple[SentFile, ...]
    register_as: str | None
    """The name in the model registry, where the recipe gives one and the artifact is fit for it."""
    alias: str


def put(record: BuildRecord, outputs: Path) -> str:
    """Write an entry for `record`, whose folder is published, and return its identifier; it counts once complete."""
    tracking = record.request.spec.tracking
    assert isinstance(tracking, MlflowTracking)  # the caller looked
    register_as = tracking.register_as if may_be_registered(record) else None
    return put_run(
        tracked_run(record), tracking, outputs, collect=lambda folder: _collect(record, folder), register_as=register_as
    )


def put_run(
    run: TrackedRun,
    tracking: MlflowTracking,
    outputs: Path,
    *,
    collect: Callable[[Path], None],
    register_as: str | None = None,
) -> str:
    """Write an entry for `run` with the files that `collect` puts into a folder, and return its identifier.

    No parameter and no tag has a secret of an address or of the environment, whoever made the run.
    """
    run = replace(run, params=redacted_values(dict(run.params)), tags=redacted_values(dict(run.tags)))
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(run.ended_ms / 1000))
    identifier = f"{stamp}-{uuid.uuid4().hex[:12]}"
    folder = files_folder(outputs, identifier)
    with paths.writing(outputs):
        folder.mkdir(parents=True)
        try:
            collect(folder)
            entry = Entry(
                identifier=identifier,
                uri=_address(tracking),
                experiment=tracking.experiment,
                run=run,
                files=tuple(_inventory(folder)),
                register_as=register_as,
                alias=tracking.alias,
            )
            text = json.dumps({"schema": SCHEMA, **plain(entry)}, indent=1, ensure_ascii=False, allow_nan=False)
            paths.write_atomically(entry_path(outputs, identifier), text + "\n", private=True)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return identifier


def _address(tracking: MlflowTracking) -> str | None:
    """The server that the build means, with a relative sqlite file made absolute: a flusher may run elsewhere."""
    uri = tracking.uri or os.environ.get("MLFLOW_TRACKING_URI") or None
    if uri is not None and uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return uri


def may_be_registered(record: BuildRecord) -> bool:
    """Whether the artifact is fit for the model registry: passing, and with the weights that were asked for."""
    return record.status == "built" and not record.seeded


def entry_path(outputs: Path, identifier: str) -> Path:
    """The entry itself."""
    return paths.outbox_folder(outputs) / f"{identifier}.json"


def files_folder(outputs: Path, identifier: str) -> Path:
    """The files of an entry, laid out as in the run."""
    return paths.outbox_folder(outputs) / identifier


def waiting(outputs: Path) -> list[str]:
    """The identifiers of all entries, oldest first."""
    return sorted(path.stem for path in paths.outbox_folder(outputs).glob("*.json"))


def is_waiting(outputs: Path, identifier: str) -> bool:
    """Whether an entry has not been sent yet."""
    return entry_path(outputs, identifier).exists()


def read(outputs: Path, identifier: str) -> Entry:
    """Read an entry; raises ValueError when this builder does not understand it."""
    try:
        document: dict[str, object] = read_json(entry_path(outputs, identifier))
        if document.pop("schema") != SCHEMA:
            raise ValueError("it was written by another version of builder")
        if document["identifier"] != identifier:  # names the folder that is sent and removed
            raise ValueError("the entry is damaged: it is of another name than its file")
        return TypeAdapter(Entry).validate_json(json.dumps(document), strict=True)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"the entry is damaged: {error}") from error
    except ValidationError as error:
        raise ValueError(f"the entry is damaged: {error.errors()[0]['msg']}") from error


def changed_files(outputs: Path, entry: Entry) -> list[str]:
    """The files of an entry that are not what they were when the build ended."""
    now = {file.path: file for file in _inventory(files_folder(outputs, entry.identifier))}
    return [file.path for file in entry.files if now.get(file.path) != file]


def remove(outputs: Path, identifier: str) -> None:
    """Forget an entry; the entry goes first, so that it is never sent without its files."""
    entry_path(outputs, identifier).unlink(missing_ok=True)
    _failure_path(outputs, identifier).unlink(missing_ok=True)
    shutil.rmtree(files_folder(outputs, identifier), ignore_errors=True)


def remove_forgotten(outputs: Path) -> None:
    """Remove files of builds that were killed before their entry was complete."""
    for folder in paths.outbox_folder(outputs).glob("*/"):
        age = time.time() - folder.stat().st_mtime
        if not is_waiting(outputs, folder.name) and age > _FORGOTTEN_AFTER:
            shutil.rmtree(folder, ignore_errors=True)


def note_failure(outputs: Path, identifier: str, reason: str) -> None:
    """Keep the reason why an entry could not be sent, for the next build to tell."""
    paths.write_atomically(_failure_path(outputs, identifier), reason + "\n", private=True)


def read_failure(outputs: Path, identifier: str) -> str | None:
    """The reason why the last attempt failed, if there was one."""
    path = _failure_path(outputs, identifier)
    return read_regular(path).decode("utf-8", "replace").strip() if path.exists() else None


def _failure_path(outputs: Path, identifier: str) -> Path:
    return paths.outbox_folder(outputs) / f"{identifier}.failed"


def _collect(record: BuildRecord, folder: Path) -> None:
    published = record.artifact.path.parent
    config = yaml.safe_dump(plain(record.request.config), sort_keys=False, allow_unicode=True)
    (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
    for file in sorted(published.iterdir()):
        if file.is_file() and file != record.artifact.path:
            _take(file, folder / file.name)
    (folder / ARTIFACT).mkdir()
    target = folder / ARTIFACT / record.artifact.path.name
    if record.artifact.path.is_dir():
        shutil.copytree(record.artifact.path, target, copy_function=_take)
    else:
        _take(record.artifact.path, target)
    _write_example(record, folder / EXAMPLE)


def _write_example(record: BuildRecord, folder: Path) -> None:
    """What checks used for the inputs: the first picture, and the array on which artifact and original differ most."""
    import numpy as np

    names = {str(described["name"]) for described in record.inputs}
    for check in record.checks:
        for picture in check.pictures:
            if picture.input in names:
                names.remove(picture.input)
                folder.mkdir(exist_ok=True)
                (folder / f"{file_name(picture.input)}.png").write_bytes(picture.png)
    for check in record.checks:
        if check.worst_input is not None and names:
            with np.load(io.BytesIO(check.worst_input), allow_pickle=False) as arrays:
                for name in sorted(names & set(arrays.files)):
                    names.remove(name)
                    folder.mkdir(exist_ok=True)
                    np.save(folder / f"{file_name(name)}.npy", arrays[name])


def file_name(name: str) -> str:
    """The name of an input as one of a file."""
    return quote(name, safe=" ").replace(".", "%2E")


def _take(source: str | Path, target: str | Path) -> str:
    """Link a large file (it is replaced, never edited, by later builds) and copy a small one."""
    if Path(source).stat().st_size >= _LINK_FROM:
        try:
            os.link(source, target)
        except OSError:
            pass  # another file system, or one without links: copied like a small one
        else:
            return str(target)
    return str(shutil.copy2(source, target))


def _inventory(folder: Path) -> Iterator[SentFile]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            status = path.stat()
            yield SentFile(path=path.relative_to(folder).as_posix(), bytes=status.st_size, mtime_ns=status.st_mtime_ns)


def without_changed_artifact(outputs: Path, entry: Entry) -> tuple[Entry, str | None]:
    """Drop the artifact from an entry whose artifact was edited in place, and say so; all else is sent as it is."""
    changed = [path for path in changed_files(outputs, entry) if path.startswith(f"{ARTIFACT}/")]
    if not changed:
        return entry, None
    shutil.rmtree(files_folder(outputs, entry.identifier) / ARTIFACT, ignore_errors=True)
    kept = tuple(file for file in entry.files if not file.path.startswith(f"{ARTIFACT}/"))
    message = f"not sent: {changed[0]} was changed after the build"
    return dataclasses.replace(entry, files=kept), message
