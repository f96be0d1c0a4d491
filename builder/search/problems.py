"""What is wrong with a search for the recipe that it is for: unknown settings, values and measures, lost conditions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from builder.config.compose import compose_spec
from builder.config.documents import Path
from builder.config.folders import Library
from builder.diagnostics.render import DiagnosticsError
from builder.diagnostics.spans import command_line_span
from builder.errors import Diagnostic, path_of
from builder.search.configuration import ReadSearch
from builder.search.measures import is_known, known_measures
from builder.search.settings import ChoiceEntry, Entry
from builder.search.space import Space, text_of, values_of
from builder.spec import BuildSpec
from builder.util.suggest import nearest

_NOT_SEARCHED = {
    "recipe": "a search is for one recipe",
    "tracking": "it changes no artifact",
    "checks": "what is demanded stays the same for all trials",
}

_FITS_OR_NOT = ("target", "format", "precision", "compression", "input", "output", "state", "functions", "source")
"""The sections that may not go together."""


def search_problems(read: ReadSearch, arguments: Sequence[str], spec: BuildSpec, library: Library) -> list[Diagnostic]:
    """Return everything that is wrong; `arguments` and `spec` are those of the recipe without the search."""
    findings = [*_space(read), *_given_twice(read, arguments), *_measures(read, spec)]
    return findings or list(_unfit_values(read, arguments, library))


def _finding(read: ReadSearch, path: Path, message: str, *, code: str = "B0234", **more: Any) -> Diagnostic:
    return Diagnostic(code=code, path=("search", *path), message=message, span=read.span(path), **more)


def _space(read: ReadSearch) -> Iterator[Diagnostic]:
    """What is wrong with the space by itself."""
    space, seen = read.search.space, dict[str, str]()
    for name, entry in space.items():
        path = ("space", name)
        group = entry.setting.partition(".")[0]
        if group in _NOT_SEARCHED:
            yield _finding(read, path, f"`{entry.setting}` cannot be searched: {_NOT_SEARCHED[group]}")
        if entry.setting in seen:
            yield _finding(
                read, path, f"`{entry.setting}` is what `{seen[entry.setting]}` varies already", code="B0234"
            )
        seen[entry.setting] = name
        if read.search.sampler == "grid" and values_of(entry) is None:
            message = "a grid needs a step here: a continuous range has no end of values"
            yield _finding(read, path, message, hint="or `search.sampler=tpe`")
        above = list(space)[: list(space).index(name)]
        for condition, wanted in entry.when.items():
            yield from _condition(read, name, condition, [text_of(value) for value in wanted], above)


def _condition(
    read: ReadSearch, name: str, condition: str, wanted: Sequence[str], above: Sequence[str]
) -> Iterator[Diagnostic]:
    path = ("space", name, "when", condition)
    if condition not in above:
        message = "a condition is about an entry that stands above"
        yield _finding(read, path, message, allowed=above, nearest=nearest(condition, above))
        return
    possible = values_of(read.search.space[condition])
    texts = None if possible is None else [value if isinstance(value, str) else text_of(value) for value in possible]
    for text in wanted:
        if texts is not None and text not in texts:
            message = f"`{condition}` is never {text}"
            yield _finding(read, path, message, allowed=texts, nearest=nearest(text, texts))


def _given_twice(read: ReadSearch, arguments: Sequence[str]) -> Iterator[Diagnostic]:
    """Arguments for all builds that set what the search varies."""
    for argument in arguments:
        key = argument.partition("=")[0].lstrip("+~")
        for name, entry in read.search.space.items():
            if key == entry.setting:
                message = f"is varied by `search.space.{name}`, so it cannot be given"
                hint = f"`~search.space.{name}` takes it out of the search"
                yield Diagnostic(
                    code="B0234", path=path_of(key), message=message, span=command_line_span(argument), hint=hint
                )


def _measures(read: ReadSearch, spec: BuildSpec) -> Iterator[Diagnostic]:
    known = known_measures(spec)
    asked = [
        *((("objectives", name), o.measure) for name, o in read.search.objectives.items()),
        *((("constraints", name), c.measure) for name, c in read.search.constraints.items()),
    ]
    for path, measure in asked:
        if not is_known(measure, known):
            place = (*path, "measure") if read.tree.get(("search", *path, "measure"))[1] else path
            hint = "the checks of the recipe say what is measured" if measure.startswith("checks.") else None
            yield _finding(
                read,
                place,
                f"nothing measures `{measure}`",
                code="B0235",
                allowed=known,
                nearest=nearest(measure, known),
                hint=hint,
            )


def _unfit_values(read: ReadSearch, arguments: Sequence[str], library: Library) -> Iterator[Diagnostic]:
    """Settings that the recipe does not have, and values that it does not take.

    What does not go together with other settings is found as well, where the search varies none of those: else it is
    left to the trials, which may set them too.
    """
    for name, entry in read.search.space.items():
        conditions = _conditions(read.search.space, entry)
        found: dict[Path, Diagnostic] = {}
        candidates = list(_candidates(name, entry))
        for place, text in candidates:
            argument = f"{entry.setting}={text}"
            line, later = [*arguments, *conditions, argument], _decided_later(name, text, read.search.space)
            wrong = _composed(line, argument, library, compatible=False)
            if not wrong and later is not None and not any(_composes([*line, more], library) for more in later):
                wrong = _composed(line, argument, library, compatible=True)
            for finding in wrong:
                found.setdefault(place, replace(finding, path=path_of(f"search.space.{name}"), span=read.span(place)))
        messages = {finding.message for finding in found.values()}
        if len(found) == len(candidates) and len(messages) == 1:
            path = ("space", name, "setting") if read.tree.get(("search", "space", name, "setting"))[1] else (
                "space", name,
            )  # fmt: skip
            message = f"`{entry.setting}`: {messages.pop()}"
            yield replace(next(iter(found.values())), message=message, span=read.span(path))
        else:
            yield from found.values()


def _decided_later(name: str, value: str, space: Space) -> list[str] | None:
    """Arguments of the entries that hold where `name` has this value: they may let it fit.

    None where others that may are varied too, whatever this one is.
    """
    found: list[str] = []
    for other, entry in space.items():
        if other == name or other in space[name].when or entry.setting.partition(".")[0] not in _FITS_OR_NOT:
            continue
        if name not in entry.when:
            return None
        if value in map(text_of, entry.when[name]):
            found += [f"{entry.setting}={text}" for _, text in _candidates(other, entry)]
    return found


def _candidates(name: str, entry: Entry) -> Iterator[tuple[Path, str]]:
    """Values to try, each with the place where it is written: every choice, and both ends of a range."""
    if isinstance(entry, ChoiceEntry):
        for index, choice in enumerate(entry.choices):
            yield ("space", name, "choices", str(index)), text_of(choice)
        return
    for end in ("min", "max"):
        yield ("space", name, end), text_of(getattr(entry, end))


def _conditions(space: Space, entry: Entry) -> list[str]:
    """Arguments with which the entry's condition holds."""
    found: list[str] = []
    for name, values in entry.when.items():
        found += [a for a in _conditions(space, space[name]) if a not in found]
        found.append(f"{space[name].setting}={text_of(values[0])}")
    return found


def _composed(arguments: Sequence[str], argument: str, library: Library, *, compatible: bool) -> list[Diagnostic]:
    """What is wrong with `argument` when all `arguments` are composed; with `compatible`, beside the others too."""
    try:
        compose_spec(arguments, library, compatible=compatible)
    except DiagnosticsError as error:
        return [f for f in error.diagnostics if f.span and f.span.file is None and f.span.text == argument]
    return []


def _composes(arguments: Sequence[str], library: Library) -> bool:
    try:
        compose_spec(arguments, library)
    except DiagnosticsError:
        return False
    return True
