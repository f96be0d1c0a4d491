"""The points of a search space: which settings a point has, how it reads on a command line, and all there are."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from builder.search.settings import ChoiceEntry, Entry, FloatEntry, IntegerEntry

Value = str | int | float
Point = Mapping[str, Value]
"""By entry, in the order of the space: a number, or a choice as the command line writes it."""
Space = Mapping[str, Entry]

MOST_POINTS = 100_000
"""A space with more points than this is not counted out."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_NOT_TEXT = ("null", "true", "false", "nan", "inf")


class Suggesting(Protocol):
    """What chooses values: a trial of Optuna."""

    def suggest_categorical(self, name: str, choices: list[str], /) -> Any:
        """Choose one of some texts."""

    def suggest_int(self, name: str, low: int, high: int, /, *, step: int, log: bool) -> int:
        """Choose an integer."""

    def suggest_float(self, name: str, low: float, high: float, /, *, step: float | None, log: bool) -> float:
        """Choose a number."""


def text_of(value: object) -> str:
    """A value as the command line writes it."""
    if isinstance(value, list):
        return f"[{','.join(text_of(item) for item in value)}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    return json.dumps(value, ensure_ascii=False)


def arguments_of(space: Space, point: Point) -> tuple[str, ...]:
    """The arguments that set a point."""
    return tuple(f"{space[name].setting}={value}" for name, value in point.items())


def identity(point: Point) -> str:
    """A text that is the same for the same point only."""
    return json.dumps(dict(point), sort_keys=True)


def suggest(space: Space, trial: Suggesting) -> Point:
    """Let `trial` choose a point; entries whose condition does not hold are left out."""
    point: dict[str, Value] = {}
    for name, entry in space.items():
        if not is_active(entry, point):
            continue
        match entry:
            case ChoiceEntry():
                point[name] = str(trial.suggest_categorical(name, [text_of(choice) for choice in entry.choices]))
            case IntegerEntry():
                high = entry.max - (entry.max - entry.min) % entry.step
                point[name] = trial.suggest_int(name, entry.min, high, step=entry.step, log=entry.log)
            case FloatEntry():
                point[name] = trial.suggest_float(name, entry.min, _last(entry), step=entry.step, log=entry.log)
    return point


def is_active(entry: Entry, point: Point) -> bool:
    """Whether the entry's condition holds at a point that has all entries above."""
    return all(
        name in point and _as_text(point[name]) in [text_of(wanted) for wanted in values]
        for name, values in entry.when.items()
    )


def _as_text(value: Value) -> str:
    return value if isinstance(value, str) else text_of(value)


def points(space: Space) -> list[Point] | None:
    """Every point in the order of the space, the last entry varying fastest; None where they cannot be counted."""
    found: list[Point] = []
    for point in _points(space, list(space), {}):
        if point is None or len(found) == MOST_POINTS:
            return None
        found.append(point)
    return found


def _points(space: Space, names: list[str], point: Point) -> Iterator[Point | None]:
    """All completions of `point` by the entries `names`; None in the place of those that cannot be counted."""
    if not names:
        yield point
        return
    name, *rest = names
    entry = space[name]
    if not is_active(entry, point):
        yield from _points(space, rest, point)
        return
    values = values_of(entry)
    if values is None:
        yield None
        return
    for value in values:
        yield from _points(space, rest, {**point, name: value})


def values_of(entry: Entry) -> list[Value] | None:
    """All values of an entry; None for a continuous range."""
    match entry:
        case ChoiceEntry():
            return list(dict.fromkeys(text_of(choice) for choice in entry.choices))
        case IntegerEntry():
            return list(range(entry.min, entry.max + 1, entry.step))
        case FloatEntry(step=None):
            return [entry.min] if entry.min == entry.max else None
        case FloatEntry():
            assert entry.step is not None
            return [entry.min + index * entry.step for index in range(_steps(entry) + 1)]


def _steps(entry: FloatEntry) -> int:
    assert entry.step is not None
    return math.floor((entry.max - entry.min) / entry.step + 1e-9)


def _last(entry: FloatEntry) -> float:
    """The largest value, which Optuna wants to be a whole number of steps away."""
    return entry.max if entry.step is None else entry.min + _steps(entry) * entry.step
