"""Text of recipes, files and models as it may be shown: nothing moves a cursor, turns the order or is a secret."""

from __future__ import annotations

import re
from collections.abc import Sequence

from builder.util.redact import without_addresses, without_environment

_UNSHOWN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 without tabulator and line feed, delete, C1
    "\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"  # marks, overrides, isolates, line separators
    "\ud800-\udfff]"  # halves of surrogate pairs, as names of files in other encodings have them
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a cell begins with that a spreadsheet computes."""


def first_of(names: Sequence[str], most: int) -> str:
    """`a, b and 4 more`: the first names of a list that may be long."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def visible(text: str) -> str:
    """`text` with control and bidirectional characters written as escapes, and without secrets.

    Line feeds and tabulators stay.
    """
    return _UNSHOWN.sub(_escape, without_addresses(without_environment(text)))


def visible_json(text: str) -> str:
    """JSON with the same values, in which those characters are JSON's own escapes, and which has no such secrets."""
    return _UNSHOWN.sub(lambda found: f"\\u{ord(found[0]):04x}", without_environment(text))


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def csv_cell(value: object) -> object:
    """A value for a cell of CSV that no spreadsheet takes for a formula: other texts than numbers get a leading `'`."""
    if not isinstance(value, str):
        return value
    if value.startswith(_FORMULA) and not _is_number(value):
        value = f"'{value}"
    return visible(value)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def size(bytes_: int) -> str:
    """A number of bytes as people say it, in decimal units as Apple's systems show them."""
    if bytes_ < 1000:
        return f"{bytes_} bytes"
    amount = float(bytes_)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5 or unit == "GB":
            return f"{amount:.0f} {unit}" if amount >= 99.5 else f"{amount:.1f} {unit}"
    raise AssertionError("unreachable: the last unit takes everything")
