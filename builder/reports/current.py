"""Whether the reports of a published build are those that a new build of a request would write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from builder.artifacts.record import StageReport
from builder.artifacts.stages import BuildRequest
from builder.reports.build_json import read_build_json
from builder.reports.plain import plain
from builder.util.redact import redacted_values

_FILES = ("build.json", "build.log", "report.html")


def is_recorded(folder: Path, request: BuildRequest, stages: Sequence[StageReport]) -> bool:
    """Whether all reports are there, of a build with the same keys, the same configuration and the same words."""
    if not all((folder / name).is_file() for name in _FILES):
        return False
    try:
        document = read_build_json(folder)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(
        document.get("status") == "built"
        and document.get("config") == redacted_values(plain(request.config))
        and document.get("overrides") == redacted_values(list(request.overrides))
        and [entry.get("key") for entry in document.get("stages", ())] == [stage.key for stage in stages]
    )
