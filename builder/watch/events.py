"""Waits for events of the file system, by watchfiles."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

QUIET = 50
"""Milliseconds without a further event after which what was saved counts as whole."""
LONGEST = 1000
"""Milliseconds after which events count although they go on."""
PAUSE = 50
"""Milliseconds after which there is an answer although nothing happened."""


def happenings(places: frozenset[Path]) -> Generator[bool]:
    """Whether something happened in these folders (not below them), again and again, at least every `PAUSE`."""
    from watchfiles import watch

    events = watch(
        *sorted(places),
        watch_filter=None,
        debounce=LONGEST,
        step=QUIET,
        rust_timeout=PAUSE,
        yield_on_timeout=True,
        raise_interrupt=True,
        recursive=False,
        ignore_permission_denied=True,
    )
    for found in events:
        yield bool(found)
