"""A diagnosis as lines for people: what stands in the way first, each with its places and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from builder.backends.coreml.preflight.obstacles import Attempt, Diagnosis, Obstacle, Site

Entry = TypeVar("Entry")

_OBSTACLES, _SITES, _NOTES = 6, 3, 6
"""How many are shown where not all are asked for."""


def format_diagnosis(diagnosis: Diagnosis, *, everything: bool = False) -> list[str]:
    """The lines of a diagnosis; one screen unless `everything` is asked for."""
    best = diagnosis.best
    lines = [_headline(diagnosis)]
    obstacles = _cut(best.in_the_way, _OBSTACLES, everything)
    for number, obstacle in enumerate(obstacles, start=1):
        lines += ["", *_obstacle(obstacle, f"{number}. ", everything=everything)]
    lines += _more(best.in_the_way, obstacles, "obstacles")
    notes = [obstacle for obstacle in best.obstacles if not obstacle.in_the_way]
    if notes:
        shown = _cut(notes, _NOTES, everything)
        lines += ["", "worth a look:"]
        lines += [line for note in shown for line in _obstacle(note, "- ", everything=everything)]
        lines += _more(notes, shown, "notes")
    if best.ours:
        lines += ["", "handled:"]
        lines += [line for each in best.ours for line in _obstacle(each, "- ", everything=everything, sites=1)]
    for attempt in diagnosis.attempts:
        if attempt is not best and attempt.in_the_way:
            lines += ["", f"{attempt.method} does not do: {_in_short(attempt)}"]
    return lines


def summary(diagnosis: Diagnosis) -> str:
    """One line: what stands in the way."""
    best = diagnosis.best
    return f"by {best.method}, {_in_short(best)}" if best.in_the_way else f"nothing is in the way of {best.method}"


def _headline(diagnosis: Diagnosis) -> str:
    best = diagnosis.best
    count = len(best.in_the_way)
    if not count:
        return f"nothing is in the way: capture by {best.method} converts"
    return f"{count} {'obstacle' if count == 1 else 'obstacles'} (capture by {best.method})"


def _in_short(attempt: Attempt) -> str:
    message = [_what(obstacle) for obstacle in attempt.in_the_way]
    return "; ".join(message[:2]) + (f"; and {len(message) - 2} more" if len(message) > 2 else "")


def _what(obstacle: Obstacle) -> str:
    return f"`{obstacle.operator}` {obstacle.what}" if obstacle.operator else obstacle.what


def _obstacle(obstacle: Obstacle, bullet: str, *, everything: bool, sites: int = _SITES) -> Iterator[str]:
    indent = " " * len(bullet)
    yield f"{bullet}{_what(obstacle)}{f' ({obstacle.count} times)' if obstacle.count > 1 else ''}"
    shown = _cut(obstacle.sites, sites, everything)
    width = max((len(_module(site)) for site in shown), default=0)
    for site in shown:
        yield f"{indent}   {_module(site):<{width}}  {_place(site)}".rstrip()
    yield from (f"{indent}   {line}" for line in _more(obstacle.sites, shown, "places"))
    if obstacle.remedy is None:
        return
    yield f"{indent}-> {obstacle.remedy.summary}"
    if obstacle.remedy.paste is not None:
        yield from (f"{indent}       {line}" for line in obstacle.remedy.paste.splitlines())


def _module(site: Site) -> str:
    return site.module or "(the model itself)"


def _place(site: Site) -> str:
    place = site.place
    if place is None:
        return "(its source is not known)"
    path = Path(place.file)
    file = os.path.relpath(path) if path.is_absolute() and path.is_relative_to(Path.cwd()) else place.file
    return f"{file}:{place.line}  {place.text}".rstrip()


def _cut(entries: Sequence[Entry], count: int, everything: bool) -> Sequence[Entry]:
    return entries if everything else entries[:count]


def _more(entries: Sequence[object], shown: Sequence[object], what: str) -> list[str]:
    rest = len(entries) - len(shown)
    return [f"and {rest} more {what}: -v shows all"] if rest else []
