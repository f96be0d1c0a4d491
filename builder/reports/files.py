"""The files beside an artifact: `build.log` while the build runs, `build.json`, reports and worst inputs then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from builder.artifacts.record import BuildRecord
from builder.progress import Progress
from builder.reports.build_json import write_build_json
from builder.reports.html import write_html
from builder.reports.log import FILE_NAME, BuildLog, Tee, captured_noise

WORST = "worst_inputs"
"""Where the inputs lie on which artifact and original differ most, one `.npz` a check and engine."""


@contextmanager
def build_logged(folder: Path, progress: Progress) -> Iterator[Progress]:
    """Yield a Progress that also writes `build.log`, which takes what libraries say meanwhile."""
    with BuildLog(folder / FILE_NAME) as log, captured_noise(log):
        yield Tee(progress, log)


def write_reports(record: BuildRecord, folder: Path) -> None:
    """Write every report of a finished build into `folder`."""
    write_build_json(record, folder)
    write_html(record, folder)
    for check in record.checks:
        if check.worst_input is not None:
            (folder / WORST).mkdir(exist_ok=True)
            (folder / WORST / f"{check.name}_{check.engine}.npz").write_bytes(check.worst_input)
