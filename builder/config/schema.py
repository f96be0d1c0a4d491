"""The types of the BuildSpec as a recipe sees them: from pydantic's error locations to keys, and types in words."""

from __future__ import annotations

import re
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from builder.config.documents import Path
from builder.spec import BuildSpec

ModelClass = type[BaseModel]


@dataclass(frozen=True, kw_only=True)
class Type:
    """A type with the key that tells the members of a union apart, if it is such a union."""

    annotation: Any
    discriminator: str | None = None
    metadata: tuple[Any, ...] = ()

    @property
    def members(self) -> list[Type]:
        """The members of a union other than None; the type itself where it is none."""
        if get_origin(self.annotation) in (Union, types.UnionType):
            return [type_of(a) for a in get_args(self.annotation) if a is not type(None)]
        return [self]

    @property
    def model(self) -> type[BaseModel] | None:
        """The pydantic model, if it is one."""
        annotation = self.annotation
        return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None

    @property
    def nullable(self) -> bool:
        """Whether null is allowed."""
        return type(None) in get_args(self.annotation)


def type_of(annotation: object) -> Type:
    """Return a type without its `Annotated`."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        found = next((str(m.discriminator) for m in metadata if isinstance(m, FieldInfo) and m.discriminator), None)
        under = type_of(inner)
        return Type(
            annotation=under.annotation,
            discriminator=found or under.discriminator,
            metadata=(*metadata, *under.metadata),
        )
    return Type(annotation=annotation)


def field_type(field: FieldInfo) -> Type:
    """Return the type of a model's field."""
    inner = type_of(field.annotation)
    discriminator = str(field.discriminator) if field.discriminator else inner.discriminator
    return Type(annotation=inner.annotation, discriminator=discriminator, metadata=(*field.metadata, *inner.metadata))


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a model's fields by the name that a recipe uses."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def kinds(union: Type) -> dict[str, Type]:
    """Return the members of a discriminated union by their tag."""
    found = {}
    for member in union.members:
        assert member.model is not None
        assert union.discriminator
        for tag in get_args(member.model.model_fields[union.discriminator].annotation):
            found[tag] = member
    return found


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a recipe an error of pydantic is."""

    path: Path
    type: Type
    owner: ModelClass | None = None
    """The model in which the last key is, or is unknown."""
    alternative: str | None = None
    """The member of a plain union that was tried, if the error is about the union's own value."""
    is_key: bool = False
    """Whether the key itself is wrong, not its value."""


def locate(location: Sequence[str | int], root: ModelClass = BuildSpec) -> Place:
    """Return the place of an error's location in `root`, without the tags that pydantic puts in for unions."""
    place = Place(path=(), type=Type(annotation=root))
    rest = list(location)
    while rest:
        place, rest = _step(place, rest)
    return place


def _step(place: Place, rest: list[str | int]) -> tuple[Place, list[str | int]]:
    here, first = place.type, rest[0]
    members = here.members
    if here.discriminator and len(members) > 1:
        return Place(path=place.path, type=kinds(here)[str(first)], owner=place.owner), rest[1:]
    if len(members) > 1:
        member = _tried(members, str(first), rest[1] if len(rest) > 1 else None)
        if len(rest) > 1 or member.discriminator:
            return Place(path=place.path, type=member, owner=place.owner), rest[1:]
        return Place(path=place.path, type=here, owner=place.owner, alternative=str(first)), []
    if members[0] is not here:
        return Place(path=place.path, type=members[0], owner=place.owner), rest
    return _inside(place, here, rest)


def _tried(members: list[Type], label: str, following: str | int | None) -> Type:
    """Return the member of a plain union that a location continues into."""
    for member in members:
        if member.discriminator and label.startswith("tagged-union["):
            return member
        if member.model is not None and re.search(rf"\b{member.model.__name__}\b", label):
            return member
    wanted = list if isinstance(following, int) else dict
    return next((m for m in members if get_origin(m.annotation) is wanted), members[0])


def _inside(place: Place, here: Type, rest: list[str | int]) -> tuple[Place, list[str | int]]:
    key = str(rest[0])
    path = (*place.path, key)
    container = get_origin(here.annotation)
    if container is dict:
        is_key = rest[1:2] == ["[key]"]
        key_type, value_type = get_args(here.annotation)
        inner = type_of(key_type if is_key else value_type)
        return Place(path=path, type=inner, is_key=is_key), [] if is_key else rest[1:]
    if container is list:
        return Place(path=path, type=type_of(get_args(here.annotation)[0])), rest[1:]
    if here.model is not None:
        field = fields(here.model).get(key)
        inner = field_type(field) if field else Type(annotation=Any)
        return Place(path=path, type=inner, owner=here.model), rest[1:]
    return Place(path=path, type=Type(annotation=Any)), rest[1:]


_WORDS: dict[Any, tuple[str, str]] = {
    str: ("text", "texts"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "truth values"),
    Any: ("anything", "values"),
}


def words(here: Type) -> str:
    """Return a type in words, such as `a number, or a list of numbers`."""
    parts = list(dict.fromkeys(_word(member)[0] for member in here.members))
    if here.nullable:
        parts.append("null")
    return ", or ".join(parts)


def _word(here: Type) -> tuple[str, str]:
    """Return one type in words, singular and plural."""
    annotation = here.annotation
    if annotation in _WORDS:
        return _WORDS[annotation]
    if get_origin(annotation) is Literal:
        names = ", ".join(f"`{value}`" for value in get_args(annotation))
        return (f"one of {names}" if len(get_args(annotation)) > 1 else names), names
    if get_origin(annotation) is list:
        plural = " or ".join(dict.fromkeys(_word(m)[1] for m in type_of(get_args(annotation)[0]).members))
        return f"a list of {plural}", "lists"
    if here.model is not None:
        return f"a mapping with {', '.join(fields(here.model))}", "mappings"
    return "a mapping", "mappings"
