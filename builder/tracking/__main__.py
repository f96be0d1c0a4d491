"""The flusher as a process of its own: `python -m builder.tracking OUTPUTS [--no-wait]`, started by builds."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from builder.tracking.flusher import flush
from builder.util.telemetry import disable_telemetry
from builder.util.text import visible


def main(arguments: list[str]) -> int:
    """Flush the outbox of the outputs folder in `arguments`; 0 when nothing waits any more, else 7."""
    disable_telemetry()
    outputs, wait = Path(arguments[0]), "--no-wait" not in arguments[1:]
    report = flush(outputs, wait=wait, say=_say)
    return 7 if report.kept else 0


def _say(message: str) -> None:
    print(visible(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {message}"), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
