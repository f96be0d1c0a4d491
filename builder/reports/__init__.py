"""A BuildRecord, and the build while it runs, made readable: terminal, log, build.json, HTML page."""

from __future__ import annotations

from pathlib import Path

from builder.artifacts import BuildRecord
from builder.reports.build_json import write_build_json
from builder.reports.log import build_logged

__all__ = ["build_logged", "write_reports"]


def write_reports(record: BuildRecord, folder: Path) -> None:
    """Write `build.json` into `folder`."""
    write_build_json(record, folder)
