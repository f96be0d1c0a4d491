"""One build with progress on stderr and its summary at the end."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from builder.artifacts.record import BuildRecord
from builder.artifacts.stages import BuildRequest
from builder.progress import BOUNDS_VARIABLE, Progress


def build_and_report(request: BuildRequest, *, outputs: Path, verbosity: int) -> BuildRecord:
    """Build one request and show the summary on stderr; raises CheckError for a broken build, after its summary."""
    from builder.config.places import located
    from builder.engine.failure import require_built
    from builder.engine.pipeline import build
    from builder.reports.terminal import Terminal

    with Terminal(verbosity=verbosity, stream=sys.stderr) as terminal:  # a failure leaves no spinner behind
        with located(request):
            record = build(request, outputs=outputs, progress=_heard_by_search(terminal))
        terminal.summary(record)
    return require_built(record, outputs)


def _heard_by_search(progress: Progress) -> Progress:
    """A Progress that tells bounds to the search that this build is a trial of, if it is one."""
    file = os.environ.get(BOUNDS_VARIABLE)
    if not file:
        return progress
    from builder.reports.log import Tee
    from builder.search.pruning import BoundsFile

    return Tee(progress, BoundsFile(Path(file)))
