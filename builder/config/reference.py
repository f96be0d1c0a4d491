"""The reference page of everything that a recipe may say, written from the spec itself.

`python -m builder.config.reference > docs/reference/recipe.md` writes it; a test fails when it drifts.
"""

from __future__ import annotations

import re
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from builder.config.folders import GROUPS, SUFFIX, head_comment, shipped
from builder.config.meanings import meanings
from builder.spec import BuildSpec

_HEAD = """# What a recipe may say

Every key, with what is allowed and what holds when it is left out. Where something is one of several kinds, `kind` says
which; in `substitutions`, `compression`, `data` and `checks`, which are mappings of names of your own, an entry's kind
may be left out when its name is the kind. A `defaults` list chooses options of groups, listed at the end, or inherits
another recipe by its name; the keys below then change single settings. The command line takes both: `precision=fp32`
chooses an option, `checks.parity.samples=8` changes a setting.
"""


def render_reference() -> str:
    """Return the page as Markdown."""
    lines = [_HEAD, "## The recipe", "", *key_table(BuildSpec)]
    for name, field in BuildSpec.model_fields.items():
        for part in _parts(field.annotation):
            lines += ["", f"## {field.alias or name}{_kind_suffix(part)}", "", *_prose(part), *key_table(part)]
            lines += nested_sections(part, seen={part})
    return "\n".join([*lines, *_options()]) + "\n"


def _options() -> list[str]:
    """Every shipped option of every group, with what its file says of itself."""
    lines = ["", "## Options of the groups", "", "Your own go into `conf/<group>/<name>.yaml` beside your recipes."]
    for group in GROUPS:
        lines += ["", f"### {group}", "", "| option | |", "|---|---|"]
        files = sorted((shipped("conf") / group).glob(f"*{SUFFIX}"), key=lambda file: _natural(file.stem))
        lines += [f"| `{file.stem}` | {_cell(head_comment(file))} |" for file in files]
    return lines


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts `ios9` before `ios13`."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", name)]


def nested_sections(part: type[BaseModel], *, seen: set[type[BaseModel]], defaults: bool = True) -> list[str]:
    """Return sections for parts inside a part, such as a flexible dimension."""
    lines: list[str] = []
    for name, field in part.model_fields.items():
        for inner in _parts(field.annotation):
            if inner in seen or inner.__name__ == "Limit":
                continue
            seen.add(inner)
            lines += ["", f"### {name}{_kind_suffix(inner)}", "", *_prose(inner), *key_table(inner, defaults=defaults)]
            lines += nested_sections(inner, seen=seen, defaults=defaults)
    return lines


def _kind_suffix(part: type[BaseModel]) -> str:
    kind = part.model_fields.get("kind")
    kinds = typing.get_args(kind.annotation) if kind is not None else ()
    return f": {', '.join(f'`{k}`' for k in kinds)}" if kinds else ""


def _prose(part: type[BaseModel]) -> list[str]:
    text = " ".join((part.__doc__ or "").split())
    return [text, ""] if text else []


def key_table(part: type[BaseModel], *, defaults: bool = True) -> list[str]:
    """Return the table of the keys of a part; nothing where it has none."""
    meanings_of_part = meanings(part)
    rows = ["| key | allowed | unless given | |", "|---|---|---|---|"] if defaults else ["| key | | |", "|---|---|---|"]
    rows += [
        f"| `{field.alias or name}` | {_allowed(field.annotation)} | {f'{_default(field)} | ' if defaults else ''}"
        f"{_cell(meanings_of_part.get(name, ''))} |"
        for name, field in part.model_fields.items()
        if name != "kind"
    ]
    return rows if len(rows) > 2 else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]  # no-argument
    if value is PydanticUndefined or isinstance(value, BaseModel):
        return "as below"
    return f"`{_yaml(value)}`"


def _yaml(value: object) -> str:
    words = {None: "null", True: "true", False: "false", "": '""'}
    return words.get(value, str(value)) if isinstance(value, str | bool | None) else str(value)


def _allowed(annotation: Any) -> str:
    """A type as words: `text`, `integer`, the literal values, or the kinds of a union."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _allowed(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{_yaml(a)}`" for a in arguments)
    if origin in (typing.Union, types.UnionType):
        allowed = [_allowed(a) for a in arguments if a is not type(None)]
        return " or ".join(dict.fromkeys(allowed)) + (" or null" if type(None) in arguments else "")
    if origin in (list, tuple):
        return f"list of {_allowed(arguments[0])}"
    if origin is dict:
        return f"mapping of names to {_allowed(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        if kind is not None:
            return " or ".join(f"`{k}`" for k in typing.get_args(kind.annotation)) or "mapping"
        return "`{min, max}`" if annotation.__name__ == "Limit" else "mapping"
    names = {str: "text", int: "integer", float: "number", bool: "`true`, `false`", Any: "anything"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _parts(annotation: object) -> Iterator[type[BaseModel]]:
    """Every part that an annotation may hold, in order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for argument in typing.get_args(annotation):
        if argument is not type(None) and not isinstance(argument, str):
            yield from _parts(argument)


if __name__ == "__main__":
    sys.stdout.write(render_reference())
