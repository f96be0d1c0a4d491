"""A command in a session of its own, which outlives the process that starts it, with a log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_LOG_LIMIT = 1_000_000
"""Bytes from which a log begins anew."""


def run_module(module: str, arguments: Sequence[str], log: Path, *, wait: bool) -> None:
    """Run a module of Python with `arguments`; what it prints goes to the end of `log`. Raises OSError.

    Without `wait` a shell starts it and ends at once, so that it is a child of init and nobody has to wait for it.
    """
    mode = "w" if log.exists() and log.stat().st_size > _LOG_LIMIT else "a"
    with open(log, mode, opener=_privately) as stream:
        subprocess.run(
            ["/bin/sh", "-c", '"$@"' if wait else '"$@" &', "sh", sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            check=False,
        )


def _privately(path: str, flags: int) -> int:
    """Open a file that only its owner may read: what libraries print may hold addresses."""
    return os.open(path, flags, 0o600)
