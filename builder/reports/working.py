"""A spinner for work of a verb that is not a build, with the time that it took the last time."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.noop import cache_folder


@contextmanager
def working(what: str, subject: object, *, verbosity: int) -> Iterator[None]:
    """Show that `what` (a few words) is done with `subject` while the block runs; nothing where nobody looks.

    How long it took is noted under both, and is the estimate of the next time.
    """
    if verbosity < 0 or not sys.stderr.isatty():
        yield
        return
    from builder.reports.terminal import Terminal
    from builder.store.digests import StatCache

    remembered, name = StatCache(Path(cache_folder()) / "remembered.json"), f"seconds {what} {subject}"
    started = time.perf_counter()
    with Terminal(verbosity=verbosity, stream=sys.stderr) as terminal:
        terminal.begin(what, remembered.number(name))
        yield
    remembered.note_number(name, round(time.perf_counter() - started, 1))
    remembered.save()
