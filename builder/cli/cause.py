"""Where an artifact missed a limit: says what adds most of the error, and a change that helps, within a minute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from builder.analysis.numerics.samples import missed_by
from builder.artifacts.record import BuildRecord
from builder.progress import BOUNDS_VARIABLE
from builder.util.text import visible

SECONDS = 55.0
"""How long the search for a cause and a change may take, so that with the rest of the message it is a minute."""
ENDING = 8.0
"""How many seconds of these the process has to begin and to end."""
_ONE_OF_MANY = ("BUILDER_SWEEP_ID", BOUNDS_VARIABLE)
"""Variables that say that nobody waits for this build alone."""


def report_cause(record: BuildRecord, overrides: Sequence[str], *, seconds: float = SECONDS) -> None:
    """Print the short form of `debug` on stderr, on the samples that missed a limit; what is not found in time too."""
    missed = any(check.passed is False and check.engine == "runtime" for check in record.checks)
    if not missed or any(os.environ.get(name) for name in _ONE_OF_MANY):
        return
    with tempfile.TemporaryDirectory(prefix="builder-cause-") as folder:
        file = Path(folder) / "missed.json"
        where = missed_by(record.checks)
        file.write_text(json.dumps(where.plain()), encoding="utf-8")
        if where.worst_input is not None:
            file.with_suffix(".npz").write_bytes(where.worst_input)
        search = ["--missed", str(file), "--seconds", f"{max(seconds - ENDING, 0):g}"]
        command = [sys.executable, "-m", "builder", "debug", "--short", "-q", *search, *overrides]
        try:  # a process, since it can be stopped
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        except subprocess.TimeoutExpired as error:
            message = error.stdout or b""
            lines = (message.decode() if isinstance(message, bytes) else message).splitlines()
            if not any(line.startswith("-> ") for line in lines):
                lines.append(f"no change that helps was found in {seconds:.0f} s; `debug` looks as long as it takes")
        else:
            lines = done.stdout.splitlines()
            if done.returncode != 0:
                lines.append(f"the search for a cause ended early: {(done.stderr.strip() or '?').splitlines()[-1]}")
    for line in lines:
        print(visible(f"  {line}"), file=sys.stderr)
