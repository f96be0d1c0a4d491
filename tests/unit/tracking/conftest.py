"""A published build, as it lies in outputs when tracking begins."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builder.artifacts.record import BuildRecord
from builder.reports.build_json import write_build_json


@pytest.fixture
def publish() -> Callable[[BuildRecord], BuildRecord]:
    """Write the files of a record to where it says they are, with a weight file large enough to be linked."""

    def write(record: BuildRecord, weight: bytes = b"w") -> BuildRecord:
        package = record.artifact.path
        (package / "Data" / "com.apple.CoreML" / "weights").mkdir(parents=True, exist_ok=True)
        (package / "Manifest.json").write_text("{}\n")
        (package / "Data" / "com.apple.CoreML" / "weights" / "weight.bin").write_bytes(weight * 1_200_000)
        (package.parent / "build.log").write_text("03:04:05.000 stage load begins\n")
        (package.parent / "report.html").write_text("<!doctype html><title>report</title>")
        write_build_json(record, package.parent)
        return record

    return write


@pytest.fixture(autouse=True)
def _no_server_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "BUILDER_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
