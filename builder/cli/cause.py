"""Where a build's artifact missed a limit: says what adds most of the error, unless finding it takes too long."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from builder.artifacts import BuildRecord
from builder.progress import BOUNDS_VARIABLE

SECONDS = 120.0
"""How long the search for a cause may take: about that of a second build."""
_ONE_OF_MANY = ("BUILDER_SWEEP_ID", BOUNDS_VARIABLE)
"""Variables that say that nobody waits for this build alone."""


def tell_cause(record: BuildRecord, overrides: Sequence[str], *, seconds: float = SECONDS) -> None:
    """Print the short form of `debug` on stderr; nothing for what `debug` refuses, and that it took too long."""
    missed = any(check.passed is False and check.engine == "runtime" for check in record.checks)
    if not missed or any(os.environ.get(name) for name in _ONE_OF_MANY):
        return
    command = [sys.executable, "-m", "builder", "debug", "--short", "-q", *overrides]
    try:  # a process, since it can be stopped
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        said = f"  where the error comes from was not found in {seconds:.0f} s; `debug` looks as long as it takes"
        print(said, file=sys.stderr)
        return
    if done.returncode == 0 and done.stdout.strip():
        print("\n".join(f"  {line}" for line in done.stdout.rstrip().splitlines()), file=sys.stderr)
