"""Reads what a job says on stderr while it runs: stages that have ended, warnings, and why it failed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

STAGES = ("load", "prepare", "capture", "convert", "compress", "seal", "verify")
_BETWEEN = {"choose": "capture"}
"""A stage that only some builds have, and the one that follows it."""
_LAST = "measure"
"""A stage that only some builds have, after all others."""
_ENDED = re.compile(rf"  ({'|'.join((*STAGES, *_BETWEEN, _LAST))}) +(cached|[\d.]+ s|\d+ min \d+ s)(?:  .*)?")
"""A stage's line, as `reports.terminal` prints it where nobody looks at a terminal."""
_WARNING = re.compile(r"  warning(\[B\d{4}\]): (.+)")
_ERROR = re.compile(r"(?:.+?: )?error\[B\d{4}\]: (.+)")
UP_TO_DATE = "up to date"


@dataclass(frozen=True, kw_only=True)
class LogEvent:
    """What was said since the last look."""

    ended: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


class Watch:
    """Follows the log of one job."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._position = 0
        self._rest = ""

    def news(self) -> LogEvent:
        """Return what complete lines said since the last call."""
        try:
            with self._log.open("rb") as stream:
                stream.seek(self._position)
                read = stream.read()
        except FileNotFoundError:  # the job of a cluster has not begun
            return LogEvent()
        self._position += len(read)
        *lines, self._rest = (self._rest + read.decode("utf-8", errors="replace")).split("\n")
        ended = tuple(found[1] for line in lines if (found := _ENDED.fullmatch(line)))
        warnings = tuple(f"{found[1]} {found[2]}" for line in lines if (found := _WARNING.fullmatch(line)))
        return LogEvent(ended=ended, warnings=warnings)


def next_stage(ended: str) -> str:
    """The stage that runs when `ended` has ended; nothing after the last."""
    return _BETWEEN.get(ended) or ("" if ended == _LAST else (*STAGES, "")[STAGES.index(ended) + 1])


def reason(log: str, code: int) -> str:
    """Why a job failed, in one line, from all that it said."""
    lines = [line.rstrip() for line in log.splitlines() if line.strip()]
    found = [match[1] for line in lines if (match := _ERROR.fullmatch(line))]
    if found:
        return found[0] if len(found) == 1 else f"{found[0]} (and {len(found) - 1} more)"
    if code == 1:  # a bug: the line before ours is the exception
        lines = [line for line in lines if not line.startswith("this is a bug")]
    return lines[-1].strip() if lines else f"ended with exit code {code} and said nothing"


def was_up_to_date(log: str) -> bool:
    """Whether nothing was built because nothing had changed."""
    return any(line.strip().startswith(UP_TO_DATE) for line in log.splitlines())
