"""How often OmegaConf would look values up for `${…}`: it remembers none, so that a few lines can take for ever."""

from __future__ import annotations

import re
from collections.abc import Mapping

from builder.config.documents import Path

MOST_LOOKUPS = 10_000
"""For all interpolations of a recipe together, each counted as often as others refer to it."""

MOST_COMPUTED = 16
"""Names that are computed (`${a.${b}}`, `${oc.select:a}`), of which nobody knows here what they refer to."""

_PLAIN = re.compile(r"\$\{\s*([^${}:]+?)\s*\}")
_NAMES_NOTHING = re.compile(r"\$\{\s*oc\.(env|decode)\s*:")


def lookups(texts: Mapping[Path, str]) -> int | None:
    """How many values are looked up to resolve all texts; None for more than `MOST_LOOKUPS`."""
    computed = sum(_computed(text) for text in texts.values())
    if computed > MOST_COMPUTED:
        return None
    below: dict[Path, list[Path]] = {}
    for path in texts:
        for end in range(len(path) + 1):
            below.setdefault(path[:end], []).append(path)
    known: dict[Path, int] = {}

    def of(path: Path, around: frozenset[Path]) -> int:
        if path in known or path in around:  # a cycle, which OmegaConf explains
            return known.get(path, 1)
        total = 1
        for name in _PLAIN.findall(texts[path]):
            total += 1 + sum(of(each, around | {path}) for each in below.get(_place(name, path), ()))
            if total > MOST_LOOKUPS:
                break
        known[path] = total
        return total

    total = 0
    for path in texts:
        try:
            total += of(path, frozenset())
        except RecursionError:  # a chain of a thousand
            return None
        if total > MOST_LOOKUPS:
            return None
    return total


def _computed(text: str) -> int:
    return text.count("${") - len(_PLAIN.findall(text)) - len(_NAMES_NOTHING.findall(text))


def _place(name: str, path: Path) -> Path:
    """The path that a name means: `a.b`, `a[0]`, or `.b` and `..b` from where it is written."""
    dots = len(name) - len(name.lstrip("."))
    parts = tuple(part for part in re.split(r"[.\[\]]+", name) if part)
    return (*path[: max(0, len(path) - dots)], *parts) if dots else parts
