"""The defaults list of a recipe: checked with positions, and translated into Hydra's own form.

A recipe may write `- precision: fp16` for `- override /precision: fp16`, and `- other_recipe` to inherit one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.config.documents import Document, Origin
from builder.config.folders import GROUPS, Library
from builder.errors import Diagnostic, SourceSpan, path_of
from builder.util.suggest import nearest

DEFAULTS = "defaults"
SELF = "_self_"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The options of a group that a defaults list or the command line chose, and where."""

    group: str
    options: tuple[str, ...]
    span: SourceSpan
    group_span: SourceSpan


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of a recipe's defaults list, understood: a choice, a recipe to inherit, or left to Hydra."""

    choice: Choice | None = None
    parent: str | None = None
    span: SourceSpan
    other: Any = None


def entries(document: Document) -> Iterator[Entry]:
    """Yield the entries of a recipe's defaults list; those of a wrong type are left out (see `list_findings`)."""
    items = document.data.get(DEFAULTS) if isinstance(document.data, Mapping) else None
    for index, item in enumerate(items if isinstance(items, list) else []):
        place = (DEFAULTS, str(index))
        if isinstance(item, str):
            yield _named(item, document.origins[place].value)
        elif isinstance(item, Mapping) and len(item) == 1:
            key, value = next(iter(item.items()))
            yield _chosen(key, value, document.origins[(*place, key)])


def _named(item: str, span: SourceSpan) -> Entry:
    group, _, name = item.removeprefix("/").rpartition("/")
    if "@" in item or "${" in item or item == SELF:
        return Entry(span=span, other=item)
    if group in GROUPS:
        return Entry(span=span, choice=Choice(group=group, options=(name,), span=span, group_span=span))
    if group in ("", "recipe"):
        return Entry(span=span, parent=name)
    return Entry(span=span, other=item)


def _chosen(key: str, value: Any, origin: Origin) -> Entry:
    group = key.removeprefix("override ").strip().removeprefix("/")
    names = value if isinstance(value, list) else [value]
    plain = "@" not in key and " " not in group and all(isinstance(n, str) and "${" not in n for n in names)
    if plain and group == "recipe" and len(names) == 1:
        return Entry(span=origin.value, parent=names[0])
    if plain:
        choice = Choice(group=group, options=tuple(names), span=origin.value, group_span=origin.start)
        return Entry(span=origin.value, choice=choice)
    return Entry(span=origin.value, other={key: value})


def hydra_defaults(document: Document, library: Library) -> list[object]:
    """Return a recipe's defaults list for Hydra: parents first, then what overrides.

    Entries that `list_findings` complains of are left out, so that the rest can be looked into.
    """
    inherited: list[object] = []
    overrides: list[object] = []
    seen: dict[str, SourceSpan] = {}
    for entry in entries(document):
        if any(_entry_findings(entry, library, seen)):
            continue
        if entry.choice:
            value = entry.choice.options[0] if len(entry.choice.options) == 1 else list(entry.choice.options)
            overrides.append({f"override /{entry.choice.group}": value})
        elif entry.parent:
            inherited.append(f"/recipe/{entry.parent}")
        elif isinstance(entry.other, Mapping) and next(iter(entry.other)).startswith("override "):
            overrides.append(entry.other)
        else:
            inherited.append(entry.other)
    return inherited + overrides


def list_findings(document: Document, library: Library) -> Iterator[Diagnostic]:
    """Yield what is wrong with a recipe's defaults list: its form, unknown groups, options and parents."""
    data = document.data
    if not isinstance(data, Mapping) or DEFAULTS not in data:
        return
    if not isinstance(data[DEFAULTS], list):
        yield Diagnostic(
            code="B0208",
            path=(DEFAULTS,),
            message="must be a list",
            span=document.origins[(DEFAULTS,)].value,
            hint="one entry a line: `- precision: fp16`",
        )
        return
    for index, item in enumerate(data[DEFAULTS]):
        if not (isinstance(item, str) or (isinstance(item, Mapping) and len(item) == 1)):
            yield Diagnostic(
                code="B0208",
                path=path_of(f"{DEFAULTS}.{index}"),
                message="must be `group: option`, or the name of a recipe to inherit",
                span=document.origins[(DEFAULTS, str(index))].value,
            )
    seen: dict[str, SourceSpan] = {}
    for entry in entries(document):
        yield from _entry_findings(entry, library, seen)


def _entry_findings(entry: Entry, library: Library, seen: dict[str, SourceSpan]) -> Iterator[Diagnostic]:
    if entry.parent is not None and library.recipe(entry.parent) is None:
        names = library.recipe_names()
        yield Diagnostic(
            code="B0206",
            path=(DEFAULTS,),
            message=f"there is no recipe `{entry.parent}` to inherit",
            span=entry.span,
            allowed=names,
            nearest=nearest(entry.parent, names),
        )
    if entry.other == SELF:
        if SELF in seen:
            yield Diagnostic(
                code="B0208",
                path=(DEFAULTS,),
                message=f"`{SELF}` is there twice, first in line {seen[SELF].line}",
                span=entry.span,
                hint="it says where the recipe's own keys come, and they come once: remove one",
            )
        seen.setdefault(SELF, entry.span)
    if entry.choice is None:
        return
    group = entry.choice.group
    if group in seen:
        yield Diagnostic(
            code="B0208",
            path=(DEFAULTS,),
            message=f"{group} is chosen twice, first in line {seen[group].line}",
            span=entry.span,
            hint=f"to choose several, write a list: `- {group}: [one, other]`",
        )
    seen[group] = entry.span
    yield from choice_findings(entry.choice, library)


def choice_findings(choice: Choice, library: Library) -> Iterator[Diagnostic]:
    """Yield the unknown group or the unknown options of a choice."""
    groups = library.group_names()
    if choice.group not in groups:
        yield Diagnostic(
            code="B0207",
            path=(DEFAULTS,),
            message=f"there is no group `{choice.group}`",
            span=choice.group_span,
            allowed=groups,
            nearest=nearest(choice.group, groups),
        )
        return
    names = library.option_names(choice.group)
    for option in choice.options:
        if library.option(choice.group, option) is None:
            yield Diagnostic(
                code="B0207",
                path=path_of(choice.group),
                message=f"there is no option `{option}`" if option else "no option is named",
                span=choice.span,
                allowed=names,
                nearest=nearest(option, names),
            )
