"""The part of JSON Schema that our schemas use, so that the tests need no package for it."""

from __future__ import annotations

import re
from typing import Any

TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "integer": int,
    "number": (int, float),
}  # fmt: skip
KNOWN = {
    "$schema", "$defs", "$ref", "title", "description", "default", "type", "properties", "additionalProperties",
    "items", "anyOf", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minItems", "maxItems", "maxProperties", "minLength",
}  # fmt: skip


def violations(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None, path: str = "") -> list[str]:
    """Return where `value` does not fit `schema`."""
    root = root or schema
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    if "$ref" in schema:
        return violations(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, path)
    found = []
    if "anyOf" in schema and all(violations(value, part, root, path) for part in schema["anyOf"]):
        found.append(f"{path}: fits nothing of anyOf")
    if "type" in schema and not _is(value, schema["type"]):
        return [f"{path}: is no {schema['type']}"]
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{path}: is not in the enum")
    if "const" in schema and value != schema["const"]:
        found.append(f"{path}: is not the constant")
    if "pattern" in schema and not re.search(schema["pattern"], value):
        found.append(f"{path}: does not match")
    if isinstance(value, list):
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            found.append(f"{path}: has a wrong length")
        for index, item in enumerate(value):
            found += violations(item, schema.get("items", {}), root, f"{path}/{index}")
    if isinstance(value, dict):
        found += _inside(value, schema, root, path)
    if isinstance(value, int | float) and not isinstance(value, bool) and value < schema.get("minimum", value):
        found.append(f"{path}: is too small")
    return found


def _inside(value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], path: str) -> list[str]:
    found = []
    if len(value) > schema.get("maxProperties", len(value)):
        found.append(f"{path}: has too many keys")
    for key, child in value.items():
        part = schema.get("properties", {}).get(key, schema.get("additionalProperties", True))
        if part is False:
            found.append(f"{path}/{key}: is not allowed")
        elif isinstance(part, dict):
            found += violations(child, part, root, f"{path}/{key}")
    return found


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name in ("integer", "number"):
        return False
    return isinstance(value, TYPES[name])
