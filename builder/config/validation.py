"""What pydantic says about a composed configuration, said in the recipe's terms: one finding for each mistake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from builder.config.documents import Path
from builder.config.folders import GROUPS
from builder.config.layers import Tree
from builder.config.schema import Place, Type, fields, kinds, locate, words
from builder.errors import Diagnostic, SourceSpan
from builder.spec import BuildSpec
from builder.util.suggest import nearest

Mistake = tuple[Place, ErrorDetails]
Model = TypeVar("Model", bound=BaseModel)

SHA256_PATTERN = "^[0-9a-f]{64}$"

TARGET_HINT = "`_target_` is not read; user code enters by `kind: python` with `factory: package.module:function`"


def validate(data: Mapping[str, object], tree: Tree, first_line: SourceSpan) -> BuildSpec | list[Diagnostic]:
    """Return the BuildSpec that `data` describes, or everything that is wrong with it."""
    return validate_as(BuildSpec, data, tree, first_line)


def validate_as(
    root: type[Model], data: Mapping[str, object], tree: Tree, first_line: SourceSpan
) -> Model | list[Diagnostic]:
    """Return the `root` that `data` describes, or everything that is wrong with it."""
    targets = [path for path in tree.origins if path[-1:] == ("_target_",)]
    findings = [_finding_at(tree, path, "is refused", code="B0211", hint=TARGET_HINT) for path in targets]
    try:
        spec = root.model_validate(data)
    except ValidationError as error:
        mistakes = [(locate(details["loc"], root), details) for details in error.errors(include_url=False)]
        mistakes = [m for m in mistakes if m[0].path not in targets]
        mistakes.sort(key=lambda mistake: mistake[0].path)
        for path, group in groupby(mistakes, key=lambda mistake: mistake[0].path):
            findings.append(_finding(path, list(group), tree, first_line))
        # An alternative of a union is only looked into where no other alternative fits better.
        return _without_shadowed(findings)
    return findings or spec


def _without_shadowed(findings: list[Diagnostic]) -> list[Diagnostic]:
    """Leave out findings about a whole value where there are findings about its parts."""
    keys = [finding.key for finding in findings if finding.key]
    return [
        finding
        for finding in findings
        if not (
            (finding.message.startswith("must be ") or finding.message.endswith(" is not allowed"))
            and any(key.startswith(f"{finding.key}.") for key in keys)
        )
    ]


def _finding_at(tree: Tree, path: Path, message: str, *, of_key: bool = True, **more: Any) -> Diagnostic:
    origin = tree.origin(path)
    span = None if origin is None else origin.start if of_key else origin.value
    return Diagnostic(path=path, message=message, span=span, **more)


def _finding(path: Path, mistakes: Sequence[Mistake], tree: Tree, first_line: SourceSpan) -> Diagnostic:
    """Return the one finding for all that pydantic says about the value at `path`."""
    place, details = _most_telling(mistakes)
    kind, given = details["type"], details["input"]
    if kind == "missing":
        return _missing(place, tree, first_line)
    if kind == "extra_forbidden":
        return _unknown_key(place, tree)
    union = place.type.members[0] if len(place.type.members) == 1 else place.type  # one that may be null
    if kind in ("union_tag_invalid", "union_tag_not_found", "model_attributes_type", "model_type") and (
        union.discriminator
    ):
        return _wrong_kind(place, union, given, tree)
    if place.is_key and _reason(details).startswith("must be one of "):
        names = _reason(details).removeprefix("must be one of ").split(", ")
        message = f"`{path[-1]}` is not allowed"
        return _finding_at(tree, path, message, code="B0215", allowed=names, nearest=nearest(path[-1], names))
    if place.is_key:
        return _finding_at(tree, path, f"`{path[-1]}` {_reason(details)}", code="B0214")
    if kind == "literal_error":
        literals = [m.annotation for m in place.type.members if get_origin(m.annotation) is Literal]
        return _not_allowed(tree, path, given, [str(word) for literal in literals for word in get_args(literal)])
    if kind.endswith(("_type", "_parsing")) or kind in ("int_from_float", "is_instance_of"):
        return _wrong_type(place, given, tree)
    message = _reason(details)
    head, separator, listed = message.partition("must be one of ")
    if separator and not head:
        return _not_allowed(tree, path, given, listed.split(", "))
    if not isinstance(given, Mapping | list):
        message = f"{message}, and this is {_shown(given)}"
    return _finding_at(tree, path, message, code="B0214", of_key=False)


def _not_allowed(tree: Tree, path: Path, given: object, names: Sequence[str]) -> Diagnostic:
    message = f"{_shown(given)} is not allowed"
    return _finding_at(
        tree, path, message, code="B0215", of_key=False, allowed=names, nearest=nearest(str(given), names)
    )


def _most_telling(mistakes: Sequence[Mistake]) -> Mistake:
    """Return the mistake to tell: a limit that was missed by the alternative whose type is right, if there is one."""
    for mistake in mistakes:
        kind = mistake[1]["type"]
        if not kind.endswith("_type") and kind != "literal_error":
            return mistake
    return mistakes[0]


def _reason(details: ErrorDetails) -> str:
    """Return pydantic's message in our words."""
    if details.get("ctx", {}).get("pattern") == SHA256_PATTERN:
        return "must be a SHA-256 digest, 64 hexadecimal digits in lower case"
    message = details["msg"].removeprefix("Value error, ")
    for old, new in [
        ("Input should be", "must be"),
        ("String should", "must"),
        ("Dictionary should", "must"),
        ("List should", "must"),
    ]:
        message = message.replace(old, new)
    return message.replace(" after validation", "")


def _missing(place: Place, tree: Tree, first_line: SourceSpan) -> Diagnostic:
    key, parent = place.path[-1], place.path[:-1]
    origin = tree.origin(parent) if parent else None
    hint = None
    if not parent and key in GROUPS:
        hint = f"write `{key}:` in the recipe, or choose an option in its defaults list: `- {key}: …`"
    expected = "a mapping" if place.type.discriminator else words(place.type)
    return Diagnostic(
        code="B0212",
        path=place.path,
        message=f"is missing; it is {expected}",
        span=origin.start if origin else first_line,
        allowed=list(kinds(place.type)) if place.type.discriminator and parent else (),
        hint=hint,
    )


def _unknown_key(place: Place, tree: Tree) -> Diagnostic:
    names = list(fields(place.owner)) if place.owner else []
    key = place.path[-1]
    return _finding_at(tree, place.path, "unknown key", code="B0211", allowed=names, nearest=nearest(key, names))


def _wrong_kind(place: Place, union: Type, given: object, tree: Tree) -> Diagnostic:
    names = list(kinds(union))
    path = (*place.path, union.discriminator or "kind")
    if isinstance(given, Mapping):
        tag = given.get(union.discriminator)
        if union.discriminator in given:
            return _not_allowed(tree, path, tag, names)
        return Diagnostic(code="B0212", path=path, message="is missing", span=_span(tree, place.path), allowed=names)
    hint = None
    if len(place.path) == 1 and place.path[0] in GROUPS:
        hint = f"options are chosen in the defaults list: `- {place.path[0]}: {given if given is not None else '…'}`"
    message = f"must be a mapping with `kind`, and this is {_shown(given)}"
    return _finding_at(tree, place.path, message, code="B0213", of_key=False, allowed=names, hint=hint)


def _span(tree: Tree, path: Path) -> SourceSpan | None:
    origin = tree.origin(path)
    return origin.start if origin else None


def _wrong_type(place: Place, given: object, tree: Tree) -> Diagnostic:
    annotations = [member.annotation for member in place.type.members]
    hint = None
    if str in annotations and isinstance(given, bool | int | float):
        hint = f'write it in quotes: "{_as_written(given, tree, place.path)}"'
    elif isinstance(given, str) and (int in annotations or float in annotations) and _is_number(given):
        hint = f"write it without quotes: {given}"
    elif isinstance(given, str) and bool in annotations and given.lower() in ("yes", "no", "on", "off"):
        hint = f"write {'true' if given.lower() in ('yes', 'on') else 'false'}"
    elif len(place.path) == 1 and place.path[0] in GROUPS and isinstance(given, str):
        hint = f"options are chosen in the defaults list: `- {place.path[0]}: {given}`"
    return _finding_at(
        tree,
        place.path,
        f"must be {words(place.type)}, and this is {_shown(given)}",
        code="B0213",
        of_key=False,
        hint=hint,
    )


def _as_written(given: bool | float, tree: Tree, path: Path) -> str:
    """The letters that YAML took for a number or truth value: `1.10`, or a digest of digits, is more than that."""
    origin = tree.origin(path)
    span = None if origin is None else origin.value
    written = "" if span is None else span.text[span.column - 1 : span.column - 1 + span.length].strip()
    return written or str(given).lower()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    """Return a value in words, short."""
    match value:
        case None:
            return "empty (null)"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"the text '{value if len(value) <= 60 else value[:57] + '…'}'"
        case Mapping():
            return "a mapping"
        case _:
            return "a list"
