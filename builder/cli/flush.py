"""`python -m builder flush`: waits until everything in the outbox has been sent to MLflow."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.errors import UnfitEnvironmentError
from builder.util.text import visible


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("flush", "Send the builds that wait in the outbox to MLflow, and wait for it.", usage="flush")
    made.add_argument("--outputs", default="outputs", metavar="FOLDER", help="whose outbox (default: outputs)")
    return made


def run(arguments: Sequence[str]) -> int:
    """Send what waits; returns the exit code. Raises UnfitEnvironmentError where something could not be sent."""
    given = parser().read(arguments)
    outputs = outputs_folder(given)
    from builder.tracking import flush

    def say(text: str) -> None:
        if verbosity(given) >= 0:
            print(visible(text), file=sys.stderr)

    report = flush(outputs, say=say)
    if not report.kept:
        say(f"{len(report.sent)} sent now, nothing waits")
    if report.kept:
        reasons = "; ".join(dict.fromkeys(kept.reason for kept in report.kept))
        raise UnfitEnvironmentError(
            f"{len(report.kept)} could not be sent to MLflow: {reasons}",
            code="B0708",
            hint="they stay in the outbox, and the next flush tries again",
        )
    return 0
