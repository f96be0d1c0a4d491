"""Says which compressed weights a format stores as plain numbers, and what that costs."""

from __future__ import annotations

from collections.abc import Sequence

from builder.util.text import first_of, size
from coreml_runtime.export import Exported


def stored_plain(exported: Exported, names: Sequence[str]) -> list[str]:
    """A note with the number of weights and their bytes before and after; none where there are no such weights."""
    if not names:
        return []
    before = sum(exported.forms[name].bytes for name in names)
    after = sum(exported.forms[name].dense.nbytes for name in names)
    return [
        f"{len(names)} compressed weights are stored as plain numbers, {size(before)} as {size(after)}: "
        f"{first_of(names, 3)}"
    ]
