"""The JSON schema of a recipe file, for editors: every key with its meaning, and the defaults list with all names.

A recipe may leave out what a group option or an inherited recipe gives, so nothing in it is required.
"""

from __future__ import annotations

from typing import Any

from builder.config.folders import GROUPS, Library
from builder.config.meanings import DescribedSchema
from builder.spec import BuildSpec

Schema = dict[str, Any]

INTERPOLATION: Schema = {"type": "string", "pattern": r"\$\{"}
"""`${…}` may stand in for any value."""


def recipe_schema(library: Library) -> Schema:
    """Return the schema of a recipe file, with the options and recipes of `library`."""
    schema = BuildSpec.model_json_schema(by_alias=True, schema_generator=DescribedSchema)
    definitions = {name: _relaxed(part) for name, part in schema.pop("$defs").items()}
    relaxed = _relaxed(schema)
    for group in GROUPS:
        relaxed["properties"][group].setdefault("description", f"Or an option in the defaults list: `- {group}: …`")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Recipe of builder",
        "description": "What is built: one model, its inputs, precision, compression, target and checks.",
        "type": "object",
        "additionalProperties": False,
        "properties": {"defaults": _defaults(library), **relaxed["properties"]},
        "$defs": definitions,
    }


def _relaxed(schema: object, *, is_value: bool = False) -> Any:
    """Return `schema` without required keys, with unions that need no `kind`, and with interpolations allowed."""
    if isinstance(schema, list):
        return [_relaxed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result: Schema = {}
    for key, value in schema.items():
        if key in ("required", "discriminator", "title", "minProperties"):
            continue
        if key == "properties":
            result[key] = {name: _relaxed(part, is_value=True) for name, part in value.items()}
        elif key == "oneOf":
            result["anyOf"] = _relaxed(value)
        elif key == "additionalProperties" and isinstance(value, dict):
            result[key] = {"anyOf": [_relaxed(value), {"type": "null"}]}
        elif key in ("default", "enum", "const"):
            result[key] = value
        else:
            result[key] = _relaxed(value)
    if is_value and result.get("type") in ("number", "integer", "boolean"):
        extra = {key: result.pop(key) for key in ("description", "default") if key in result}
        return {"anyOf": [result, INTERPOLATION], **extra}
    return result


def _defaults(library: Library) -> Schema:
    """Return the schema of the defaults list."""
    recipes = library.recipe_names()
    groups: Schema = {}
    for group in library.group_names():
        option: Schema = {"type": "string", "enum": library.option_names(group)}
        choice = {"anyOf": [option, {"type": "array", "items": option, "minItems": 1}, {"type": "null"}]}
        for spelling in (group, f"/{group}", f"override {group}", f"override /{group}"):
            groups[spelling] = choice
    inherited = ["_self_", *recipes, *(f"/recipe/{name}" for name in recipes)]
    return {
        "description": "Options of groups, such as `- precision: fp16`, and recipes to inherit by name.",
        "type": "array",
        "items": {
            "anyOf": [
                {"type": "string", "enum": inherited},
                {"type": "object", "properties": groups, "additionalProperties": False, "maxProperties": 1},
            ]
        },
    }
