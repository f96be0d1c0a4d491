"""`builder.lock`: what every recipe is built from and what must come out, in one file that people can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from builder.artifacts.stages import BuildRequest
from builder.backends import backend_of
from builder.errors import ConfigurationError, VerificationError
from builder.release.digests import file_sha256
from builder.release.portable import chosen_settings, config_digest, files_named, name_in_lock
from builder.spec.source_kinds import SourceKind, kind_of
from builder.store.digests import digest_of
from builder.store.keys import TOOLS, tool_versions
from builder.store.versions import installed_version
from builder.util.locks import exclusive
from builder.util.paths import write_atomically, writing
from builder.util.reading import JsonObject, read_regular
from builder.util.redact import redacted_values

FILE_NAME = "builder.lock"
SCHEMA = 1
_HEAD = """\
# Written by `python -m builder lock`; commit it. `--locked` and releases refuse what differs from it.
"""
Entry = JsonObject


def lock_name(recipe: str, variant: str) -> str:
    """The name of an entry: the recipe, and the variant where it is not the default."""
    return recipe if variant == "default" else f"{recipe}/{variant}"


def locked_tools(kind: SourceKind, artifact_format: str) -> dict[str, str]:
    """The exact versions of all that can change an artifact of this format, of a source of this kind."""
    found = {name: version for name, version in tool_versions().items() if name in ("python", "builder", *TOOLS)}
    return found | {name: installed_version(name) for name in (*kind.packages, *backend_of(artifact_format).packages)}


def make_entry(request: BuildRequest, built: JsonObject, root: Path) -> dict[str, Any]:
    """The entry that a finished build gives; `built` is what its job told (see `builder.release.job`)."""
    files = {name_in_lock(file, root): file for file in map(Path, built["project_files"])}
    for key, named in files_named(request.spec).items():
        files |= {name_in_lock(file, root, key): file for file in named}
    data = {name: {"sha256": file_sha256(Path(file))} for name, file in built["data"].items()}
    if built["labels"] is not None:
        data["labels"] = {"sha256": digest_of(built["labels"]).removeprefix("sha256:")}
    return {
        "artifact": {name: built["artifact"][name] for name in ("bytes", "digest", "format", "semantic_digest")},
        "config": config_digest(request.spec),
        "data": data,
        "files": {name: {"bytes": file.stat().st_size, "sha256": file_sha256(file)} for name, file in files.items()},
        "overrides": redacted_values(list(request.overrides)),
        "settings": redacted_values(chosen_settings(request.spec)),
        "source": {name: value for name, value in built["source"].items() if name != "path"},
        "tools": locked_tools(kind_of(request.spec.source), request.spec.format),
    }


def read_lock(folder: Path) -> dict[str, Entry]:
    """All entries of the lock in `folder`, by name; none where there is no lock. Raises ConfigurationError."""
    path = folder / FILE_NAME
    if not path.exists():
        return {}
    try:
        document = yaml.load(read_regular(path).decode("utf-8"), _PlainLoader)
        if document["schema"] != SCHEMA:
            raise ConfigurationError(
                f"{path} has schema {document['schema']}, and this builder reads {SCHEMA}", code="B0267"
            )
        recipes: dict[str, Entry] = document["recipes"]
        complete = all(_is_complete(entry) for entry in recipes.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"{path} is not a lock of builder: {error}", code="B0267", hint="write it again: `lock`"
        ) from error
    if not complete:
        raise ConfigurationError(f"{path} is incomplete", code="B0267", hint="write it again: `python -m builder lock`")
    return recipes


def locked_artifacts(folder: Path) -> set[str]:
    """The digests of all artifacts that the lock in `folder` names; raises ConfigurationError as `read_lock` does."""
    return {str(entry["artifact"]["digest"]) for entry in read_lock(folder).values()}


class _PlainLoader(yaml.SafeLoader):
    """Reads YAML without aliases: a lock has none, and a few of them stand for more than any memory holds."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node; raises ComposerError for an alias."""
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "an alias", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)


def _is_complete(entry: object) -> bool:
    """Whether an entry has every section, each of its type, and names an artifact."""
    if not isinstance(entry, dict) or not entry.keys() >= _SECTIONS:
        return False
    mappings = all(isinstance(entry[name], dict) for name in _SECTIONS - {"config", "overrides"})
    overrides = entry["overrides"]
    listed = isinstance(overrides, list | dict) and all(isinstance(one, str) for one in overrides)
    return mappings and listed and isinstance(entry["artifact"].get("digest"), str)


_SETTINGS = "settings: "
_SECTIONS = {"artifact", "config", "data", "files", "overrides", "settings", "source", "tools"}


def lock_text(entries: Mapping[str, Entry]) -> str:
    """The text of a lock, sorted, so that a change shows as a small difference."""
    document = {"recipes": {name: dict(entries[name]) for name in sorted(entries)}, "schema": SCHEMA}
    return _HEAD + yaml.safe_dump(document, sort_keys=True, allow_unicode=True, width=110)


def update_lock(folder: Path, entries: Mapping[str, Entry]) -> Path:
    """Add or replace entries of the lock in `folder`, keep the others, and return its path."""
    path = folder / FILE_NAME
    with writing(folder), exclusive(folder / f".{FILE_NAME}.lock"):
        write_atomically(path, lock_text({**read_lock(folder), **entries}))
    return path


def require_entry(folder: Path, name: str) -> Entry:
    """The entry of the lock; raises VerificationError when there is none."""
    entries = read_lock(folder)
    if name not in entries:
        why = f"{FILE_NAME} has no entry {name}" if entries else f"there is no {FILE_NAME}"
        recipe, _, variant = name.partition("/")
        hint = f"run `python -m builder lock recipe={recipe}{' …' if variant else ''}` and commit {FILE_NAME}"
        raise VerificationError(f"nothing is locked: {why}", code="B0610", hint=hint)
    return entries[name]


def drift_before(entry: Entry, request: BuildRequest, root: Path) -> list[str]:
    """What differs from the lock before anything is built: settings, tools, every file that is named or was read."""
    now = {
        "config": config_digest(request.spec),
        "settings": redacted_values(chosen_settings(request.spec)),
        "tools": locked_tools(kind_of(request.spec.source), request.spec.format),
        "files": _files_now(entry, request, root),
    }
    return _drift({name: entry[name] for name in now}, now)


def drift_after(entry: Entry, made: Entry) -> list[str]:
    """What differs from the lock once the build has told what it read and made."""
    return _drift({**entry, "overrides": []}, {**made, "overrides": []})


def _drift(old: Entry, new: Entry) -> list[str]:
    """Every difference; the digest of the configuration only where no setting says what changed, as a new default."""
    found = list(_differences(old, new, ""))
    settings = any(line.startswith(_SETTINGS) for line in found)
    return [line for line in found if not (settings and line.startswith("config: "))]


def refuse_drift(name: str, drift: list[str]) -> None:
    """Raise VerificationError naming everything that drifted; nothing happens where nothing did."""
    if drift:
        raise VerificationError(
            f"{name} is not what {FILE_NAME} says:\n  " + "\n  ".join(drift),
            code="B0610",
            hint=f"undo the change, or accept it: `python -m builder lock recipe=…`, then commit {FILE_NAME}",
        )


def _files_now(entry: Entry, request: BuildRequest, root: Path) -> dict[str, dict[str, object]]:
    paths = {name: root / name for name in entry["files"] if not name.startswith("(")}
    for key, named in files_named(request.spec).items():
        paths |= {name_in_lock(file, root, key): file for file in named}
    return {
        name: {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for name, path in paths.items()
        if path.is_file()
    }


def _differences(old: object, new: object, key: str) -> Iterator[str]:
    """Every leaf that differs: its key, the old and the new value."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        changed_file = "sha256" in old and "sha256" in new
        for name in sorted(old.keys() | new.keys()):
            if changed_file and name != "sha256" and old.get("sha256") != new.get("sha256"):
                continue  # one line for a file: its digest says enough
            yield from _differences(old.get(name), new.get(name), f"{key}: {name}" if key else str(name))
    elif old != new:
        nothing = "the default" if key.startswith(_SETTINGS) else "missing"
        yield f"{key}: {_shown(old, nothing)} -> {_shown(new, nothing)}"


def _shown(value: object, nothing: str) -> str:
    if value is None:
        return nothing
    if isinstance(value, Mapping) and "sha256" in value:
        return f"sha256 {value['sha256']}"
    return str(value)
