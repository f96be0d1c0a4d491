"""The nearest of some names, for "did you mean"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` most like `name` in either case, or None where none is.

    Of several that are equally like it, the one whose last number is nearest: of `ios9` that is `ios13`.
    """
    known = {known.casefold(): known for known in names}
    sought = name.casefold()
    matches = get_close_matches(sought, known, n=max(len(known), 1), cutoff=0.6)
    best = max(matches, key=lambda match: (_likeness(match, sought), -_apart(match, sought)), default=None)
    return None if best is None else known[best]


def _likeness(first: str, second: str) -> float:
    return SequenceMatcher(None, first, second).ratio()


def _apart(first: str, second: str) -> int:
    """How far the last numbers in two names are from each other; 0 where either has none."""
    numbers = [re.findall(r"\d+", text) for text in (first, second)]
    return abs(int(numbers[0][-1]) - int(numbers[1][-1])) if all(numbers) else 0


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """Return a hint with the nearest name, or None."""
    found = nearest(name, names)
    return None if found is None else f"did you mean `{found}`?"
