"""The place in a recipe that a failure of a later stage is about: its key, found again by where it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from builder.artifacts.stages import BuildRequest
from builder.config.folders import shipped
from builder.diagnostics.spans import command_line_span
from builder.errors import BuilderError, SourceSpan
from builder.util.reading import MOST_OF_RECIPE, read_regular


@contextmanager
def located(request: BuildRequest) -> Iterator[None]:
    """Give an error that is raised inside the place where its setting is written."""
    try:
        yield
    except BuilderError as error:
        if error.key is None or error.span is not None:
            raise
        span = place_of(error.key, request)
        if span is None:
            raise
        raise error.replaced(span=span) from error


def place_of(key: str, request: BuildRequest) -> SourceSpan | None:
    """Return where the setting `key` was written, or the first one below it, or the nearest one above it.

    None where the recipe does not write it at all, or its file is gone.
    """
    found = _written(key, request.origins)
    if found is None:
        return None
    name, origin = found
    if origin == "command line":
        return _argument(name, request.overrides)
    place = re.fullmatch(r"(.+):(\d+):(\d+)", origin)
    assert place is not None  # str(SourceSpan) writes them
    file, line, column = Path(place[1]), int(place[2]), int(place[3])
    try:
        text = read_regular(file, most=MOST_OF_RECIPE).decode("utf-8-sig").splitlines()[line - 1]
    except (OSError, UnicodeDecodeError, IndexError):
        text = ""
    last = name.rpartition(".")[2]
    rest = text[column - 1 :]
    length = len(last) if rest.startswith(last) else len(rest)
    return SourceSpan(file=file.absolute(), line=line, column=column, length=length, text=text)


def _written(key: str, origins: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the key that is nearest to `key` among those that are written, with its origin.

    What a shipped option says comes last: the user wrote something else, and can change that.
    """
    below = sorted(
        (o for o in origins if f"{o}.".startswith(f"{key}.")),
        key=lambda o: (o == key, _order(origins[o])),
    )
    above = [".".join(key.split(".")[:depth]) for depth in range(key.count("."), 0, -1)]
    written = [name for name in [*below, *above] if name in origins]
    written.sort(key=lambda name: _is_shipped(origins[name]))
    return (written[0], origins[written[0]]) if written else None


def _is_shipped(origin: str) -> bool:
    return Path(origin.partition(":")[0]).absolute().is_relative_to(shipped("conf"))


def _order(origin: str) -> tuple[str, int]:
    """Sort by file, then line."""
    file, _, rest = origin.partition(":")
    line = rest.partition(":")[0]
    return file, int(line) if line.isdecimal() else 0


def _argument(key: str, overrides: Sequence[str]) -> SourceSpan | None:
    """Return the argument of the command line that sets `key`, or something that contains it."""
    for argument in overrides:
        name, _, value = argument.partition("=")
        if f"{key}.".startswith(f"{name.lstrip('+~')}."):
            return command_line_span(argument, value or None)
    return None
