"""The keys of a recipe and the values that each may have, read from the shipped JSON schema of recipes.

Standard library only: a shell asks for them at every press of the tab key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from builder.config.folders import shipped

if TYPE_CHECKING:
    from builder.util.reading import JsonObject

SCHEMA_FILE = "recipe.schema.json"
"""Lies beside the shipped recipes, whose first line names it to editors; a test holds it to the spec."""
_KIND = "kind"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key that may stand at a place of a recipe."""

    name: str
    meaning: str
    has_keys: bool
    """Whether it is a section, so that further keys may follow behind a dot."""


@cache
def _schema() -> JsonObject:
    text = (shipped("recipes") / SCHEMA_FILE).read_text(encoding="utf-8")
    found: Mapping[str, object] = json.loads(text)
    return found


def keys_in(path: Sequence[str]) -> list[Key]:
    """Return the keys that may stand in the section at `path`, sorted; none where there is no such section."""
    found: dict[str, Key] = {}
    for schema in _at(path):
        for name, part in schema.get("properties", {}).items():
            if name != "defaults":
                found.setdefault(name, _key(name, part))
        for entry in _entries(schema):  # a name of the user's own; an entry that is named after its kind needs no kind
            for kind in _values(entry.get("properties", {}).get(_KIND, {})):
                found.setdefault(kind, Key(name=kind, meaning=_sentence(entry), has_keys=True))
    return [found[name] for name in sorted(found)]


def values_of(path: Sequence[str]) -> list[str]:
    """Return the values that the setting at `path` may have where these can be listed, in the schema's order."""
    found = [value for schema in _at(path) for value in _values(schema)]
    return list(dict.fromkeys(found))


def _at(path: Sequence[str]) -> list[JsonObject]:
    """Every alternative of what may stand at `path`."""
    found = list(_alternatives(_schema()))
    for name in path:
        inner: list[Mapping[str, object]] = []
        for schema in found:
            properties = schema.get("properties", {})
            if name in properties:
                inner += _alternatives(properties[name])
            else:
                inner += _named(list(_entries(schema)), name)
        found = inner
    return found


def _named(entries: list[JsonObject], name: str) -> list[JsonObject]:
    """The entries of a mapping that `name` may be: those of its kind, or all where it is not the name of one."""
    same = [entry for entry in entries if name in _values(entry.get("properties", {}).get(_KIND, {}))]
    return same or entries


def _entries(schema: JsonObject) -> Iterator[JsonObject]:
    """The alternatives of an entry of a mapping with free names."""
    if isinstance(schema.get("additionalProperties"), dict):
        yield from _alternatives(schema["additionalProperties"])


def _alternatives(schema: JsonObject) -> Iterator[JsonObject]:
    if "$ref" in schema:
        yield from _alternatives(_schema()["$defs"][schema["$ref"].rpartition("/")[2]])
    elif "anyOf" in schema:
        for part in schema["anyOf"]:
            yield from _alternatives(part)
    else:
        yield schema


def _values(schema: JsonObject) -> list[str]:
    """The values that a schema lists, as they are written in YAML."""
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if schema.get("type") == "boolean":
        values = [True, False]
    return [value if isinstance(value, str) else json.dumps(value) for value in values]


def _key(name: str, schema: Mapping[str, object]) -> Key:
    parts = list(_alternatives(schema))
    has_keys = any("properties" in part or isinstance(part.get("additionalProperties"), dict) for part in parts)
    return Key(name=name, meaning=_sentence(schema) or _sentence(parts[0] if parts else {}), has_keys=has_keys)


def _sentence(schema: Mapping[str, object]) -> str:
    return " ".join(str(schema.get("description", "")).split()).partition(". ")[0]
