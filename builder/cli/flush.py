"""`python -m builder flush`: waits until everything in the outbox has been sent to MLflow."""

from __future__ import annotations

from collections.abc import Sequence

from builder.cli.arguments import Parser, outputs_folder


def run(arguments: Sequence[str]) -> int:
    """Send what waits; returns the exit code."""
    parser = Parser("flush", "Send the builds that wait in the outbox to MLflow, and wait for it.", usage="flush")
    parser.add_argument("--outputs", default="outputs", metavar="FOLDER", help="whose outbox (default: outputs)")
    outputs = outputs_folder(parser.read(arguments))
    from builder.tracking import flush

    flush(outputs)
    return 0
