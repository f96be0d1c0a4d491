"""`python -m builder flush`: waits until MLflow and the remote store have everything that waits for them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from builder.cli.arguments import Parser, outputs_folder, verbosity
from builder.errors import UnfitEnvironmentError
from builder.util.text import visible

DESCRIPTION = """Send the builds that wait in the outbox to MLflow, and results that wait for the remote store
(BUILDER_REMOTE), and wait for it."""


def parser() -> Parser:
    """Return the parser of this verb."""
    made = Parser("flush", DESCRIPTION, usage="flush")
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
    results = _send_results(say)
    if report.kept:
        reasons = "; ".join(dict.fromkeys(kept.reason for kept in report.kept))
        raise UnfitEnvironmentError(
            f"{len(report.kept)} could not be sent to MLflow: {reasons}",
            code="B0708",
            hint="they stay in the outbox, and the next flush tries again",
        )
    if results is not None:
        raise results
    return 0


def _send_results(say: Callable[[str], None]) -> UnfitEnvironmentError | None:
    """Send results to the remote store, if there is one; the error where it does not take them."""
    from builder.noop import cache_folder
    from builder.store.remote.address import remote_address
    from builder.store.remote.sender import send_waiting

    address = remote_address()
    if address is None or not address.can_write:
        return None
    report = send_waiting(Path(cache_folder()) / "store", wait=True, say=say)
    if report.reason is None:
        say(f"{report.sent} {'result' if report.sent == 1 else 'results'} sent to {address} now")
        return None
    return UnfitEnvironmentError(
        f"{report.waiting} results could not be sent to {address}: {report.reason}",
        code="B0709",
        hint="they wait beside the local store, and the next build or flush tries again",
    )
