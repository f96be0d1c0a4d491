"""What the text below a field of the spec says of it, for schemas and reference pages.

pydantic would read the sources of all parts in every build (`use_attribute_docstrings`), and only pages need it.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue


@cache
def meanings(part: type[BaseModel]) -> dict[str, str]:
    """By field, the text that follows it in its class or in the one that it inherits it from."""
    found: dict[str, str] = {}
    for owner in reversed(part.__mro__):
        if issubclass(owner, BaseModel) and owner is not BaseModel:
            found |= _texts(owner)
    return {name: found[name] for name in part.model_fields if name in found}


def _texts(owner: type) -> dict[str, str]:
    (defined,) = ast.parse(textwrap.dedent(inspect.getsource(owner))).body
    assert isinstance(defined, ast.ClassDef)
    found = {}
    for field, text in zip(defined.body, defined.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(meaning))):
                found[name] = inspect.cleandoc(meaning)
    return found


class DescribedSchema(GenerateJsonSchema):
    """The JSON schema of a part in which every field has its meaning for a description."""

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        """Add the descriptions to what pydantic makes of a model."""
        made = super().model_schema(schema)
        part: type[BaseModel] = schema["cls"]
        for name, text in meanings(part).items():
            made["properties"][part.model_fields[name].alias or name].setdefault("description", text)
        return made
