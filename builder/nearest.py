"""The nearest of some names, for "did you mean"."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the one of `names` most like `name` in either case, or None where none is."""
    known = {known.casefold(): known for known in names}
    return next((known[match] for match in get_close_matches(name.casefold(), known, n=1, cutoff=0.6)), None)


def did_you_mean(name: str, names: Iterable[str]) -> str | None:
    """Return a hint with the nearest name, or None."""
    found = nearest(name, names)
    return None if found is None else f"did you mean `{found}`?"
